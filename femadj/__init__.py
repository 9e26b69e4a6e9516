"""femadj: exact gradients of finite element responses with respect to every mesh node coordinate.

K(X) is assembled from the node coordinates X, factorised once by a sparse direct solver, and the factor serves the
adjoint solves of any number of responses.
"""

import sys
from importlib import import_module

from femadj.algebra.linear_system import LinearSolution, LinearSystem, ResponseEvaluation, SystemGradient
from femadj.algebra.newton import LoadStep, Newton
from femadj.base.design import Cotangent, Design
from femadj.conditions.loads import BodyForce, Flux, Gravity, PointLoad, Pressure, Source, TotalForce, Traction
from femadj.conditions.supports import Fixed
from femadj.conditions.thermal import ThermalStrain
from femadj.errors import (
    ComplexStepError,
    ConvergenceError,
    FemadjError,
    FormError,
    IllConditionedError,
    IllConditionedWarning,
    IndefiniteSystemError,
    InvalidMeshError,
    LinearSystemError,
    LoadError,
    MaterialError,
    MeshFileError,
    MissingExtraError,
    NonFiniteError,
    ParameterError,
    ProblemError,
    ResidualError,
    ResponseError,
    SingularSystemError,
    SolverError,
    SolverMemoryError,
    SolverUnavailableError,
    SupportError,
    TangledMeshError,
    UnknownGroupError,
    UnknownParameterError,
    UnsupportedCellError,
    VerificationError,
)
from femadj.io import GroupRecord, ImportReport, read_mesh, read_mesh_with_report, write_vtu
from femadj.mesh import Mesh
from femadj.mesh.topology import CellBlock, FacetSet
from femadj.physics import AdvectionDiffusion, Diffusion, Elasticity, Form, Hyperelastic, Integral, NonlinearForm
from femadj.problems import (
    Chain,
    ChainGradient,
    ChainSolution,
    Counts,
    Gradient,
    LinearStatic,
    NonlinearSolution,
    NonlinearStatic,
    Partials,
    Solution,
)
from femadj.responses import (
    Compliance,
    Displacement,
    Evaluation,
    FieldNorm,
    Functional,
    Mass,
    OnStage,
    Reaction,
    Response,
    StrainEnergy,
    Volume,
)
from femadj.results import write_results
from femadj.sensitivity.adjoint import value_and_gradient, values_and_gradients
from femadj.sensitivity.verify import Verification, verify
from femadj.solvers import available_solvers, get_solver
from femadj.space.parameters import CellField, NodalField

__version__ = "0.1.0"

# Import paths of modules that have moved into folders; the old ones still work.
for _old, _new in {
    "boundary_geometry": "mesh.normals",
    "complex_step": "base.complex_step",
    "discretisation": "space.discretisation",
    "element_space": "space.element",
    "linear_system": "algebra.linear_system",
    "loads": "conditions.loads",
    "parameters": "space.parameters",
    "parametric": "algebra.plain",
    "reference": "mesh.reference",
    "skfem_bridge": "mesh.skfem_bridge",
    "sparsity": "space.pattern",
    "supports": "conditions.supports",
    "thermal": "conditions.thermal",
    "topology": "mesh.topology",
    "verify": "sensitivity.verify",
}.items():
    sys.modules[f"{__name__}.{_old}"] = import_module(f"{__name__}.{_new}")

__all__ = [
    "AdvectionDiffusion",
    "BodyForce",
    "CellBlock",
    "CellField",
    "Chain",
    "ChainGradient",
    "ChainSolution",
    "ComplexStepError",
    "Compliance",
    "ConvergenceError",
    "Cotangent",
    "Counts",
    "Design",
    "Diffusion",
    "Displacement",
    "Elasticity",
    "Evaluation",
    "FacetSet",
    "FemadjError",
    "FieldNorm",
    "Fixed",
    "Flux",
    "Form",
    "FormError",
    "Functional",
    "Gradient",
    "Gravity",
    "GroupRecord",
    "Hyperelastic",
    "IllConditionedError",
    "IllConditionedWarning",
    "ImportReport",
    "IndefiniteSystemError",
    "Integral",
    "InvalidMeshError",
    "LinearSolution",
    "LinearStatic",
    "LinearSystem",
    "LinearSystemError",
    "LoadError",
    "LoadStep",
    "Mass",
    "MaterialError",
    "Mesh",
    "MeshFileError",
    "MissingExtraError",
    "Newton",
    "NodalField",
    "NonFiniteError",
    "NonlinearForm",
    "NonlinearSolution",
    "NonlinearStatic",
    "OnStage",
    "ParameterError",
    "Partials",
    "PointLoad",
    "Pressure",
    "ProblemError",
    "Reaction",
    "ResidualError",
    "Response",
    "ResponseError",
    "ResponseEvaluation",
    "SingularSystemError",
    "Solution",
    "SolverError",
    "SolverMemoryError",
    "SolverUnavailableError",
    "Source",
    "StrainEnergy",
    "SupportError",
    "SystemGradient",
    "TangledMeshError",
    "ThermalStrain",
    "TotalForce",
    "Traction",
    "UnknownGroupError",
    "UnknownParameterError",
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
