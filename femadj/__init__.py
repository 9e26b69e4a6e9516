"""femadj: exact gradients of finite element responses with respect to every mesh node coordinate.

K(X) is assembled from the node coordinates X, factorised once by a sparse direct solver, and the factor serves the
adjoint solves of any number of responses.
"""

from femadj.errors import (
    FemadjError,
    IndefiniteSystemError,
    InvalidMeshError,
    LoadError,
    MaterialError,
    MeshFileError,
    MissingExtraError,
    NonFiniteError,
    ProblemError,
    ResidualError,
    ResponseError,
    SingularSystemError,
    SolverError,
    SolverUnavailableError,
    SupportError,
    TangledMeshError,
    UnknownGroupError,
    UnsupportedCellError,
    VerificationError,
)
from femadj.io import GroupRecord, ImportReport, read_mesh, read_mesh_with_report, write_vtu
from femadj.loads import BodyForce, Flux, Gravity, PointLoad, Pressure, Source, TotalForce, Traction
from femadj.mesh import Mesh
from femadj.physics import Diffusion, Elasticity
from femadj.problems import Counts, LinearStatic, Solution
from femadj.responses import Compliance, Displacement, Evaluation, FieldNorm, Mass, Response, StrainEnergy, Volume
from femadj.results import write_results
from femadj.sensitivity import Gradient, value_and_gradient, values_and_gradients
from femadj.solvers import available_solvers, get_solver
from femadj.supports import Fixed
from femadj.topology import CellBlock, FacetSet
from femadj.verify import Verification, verify

__version__ = "0.1.0"

__all__ = [
    "BodyForce",
    "CellBlock",
    "Compliance",
    "Counts",
    "Diffusion",
    "Displacement",
    "Elasticity",
    "Evaluation",
    "FacetSet",
    "FemadjError",
    "FieldNorm",
    "Fixed",
    "Flux",
    "Gradient",
    "Gravity",
    "GroupRecord",
    "ImportReport",
    "IndefiniteSystemError",
    "InvalidMeshError",
    "LinearStatic",
    "LoadError",
    "Mass",
    "MaterialError",
    "Mesh",
    "MeshFileError",
    "MissingExtraError",
    "NonFiniteError",
    "PointLoad",
    "Pressure",
    "ProblemError",
    "ResidualError",
    "Response",
    "ResponseError",
    "SingularSystemError",
    "Solution",
    "SolverError",
    "SolverUnavailableError",
    "Source",
    "StrainEnergy",
    "SupportError",
    "TangledMeshError",
    "TotalForce",
    "Traction",
    "UnknownGroupError",
    "UnsupportedCellError",
    "Verification",
    "VerificationError",
    "Volume",
    "available_solvers",
    "get_solver",
    "read_mesh",
    "read_mesh_with_report",
    "value_and_gradient",
    "values_and_gradients",
    "verify",
    "write_results",
    "write_vtu",
]
