"""Keywords of Abaqus and CalculiX, sorted by what they mean for a mesh, and the parameters of those that are read."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from femadj.errors import MeshFileError

PARAMETERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "NODE": ("NSET", "SYSTEM", "INPUT"),
        "ELEMENT": ("TYPE", "ELSET", "INPUT"),
        "NSET": ("NSET", "GENERATE", "INSTANCE", "INTERNAL", "ELSET", "UNSORTED", "INPUT"),
        "ELSET": ("ELSET", "GENERATE", "INSTANCE", "INTERNAL", "UNSORTED", "INPUT"),
        "SURFACE": (
            "NAME", "TYPE", "INTERNAL", "COMBINE", "TRIM", "CROP", "NOTHICK", "NOOFFSET", "PROPERTY", "REGIONTYPE",
            "FILLETRADIUS", "MAXRATIO", "SCALE", "DEFINITION", "INPUT",
        ),
        "PART": ("NAME",),
        "INSTANCE": ("NAME", "PART"),
        "INCLUDE": ("INPUT",),
        "ASSEMBLY": ("NAME",),
        "SYSTEM": (),
        "TRANSFORM": ("NSET", "TYPE"),
        "ENDPART": (), "ENDINSTANCE": (), "ENDASSEMBLY": (),
    }
)  # fmt: skip
"""Parameters of the keywords that are read, without blanks."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            ("NGEN", "NFILL", "NCOPY", "NMAP", "ELGEN", "ELCOPY", "SYMMETRICMODELGENERATION"),
            "generates nodes or elements, which is not supported; let the preprocessor write them out",
        ),
        **dict.fromkeys(
            ("IMPORT", "IMPORTNSET", "IMPORTELSET"), "takes the mesh from another job, which is not supported"
        ),
        "IMPERFECTION": "moves nodes, which is not supported; let the preprocessor write the moved nodes",
        "PARAMETER": "defines parameters, which are not supported; let the preprocessor write out their values",
    }
)
"""Keywords that change the mesh in ways that are not read."""

_TOLD: Mapping[str, str] = MappingProxyType(
    {
        "MODELCHANGE": "takes elements out or in during a step, which is not read: the mesh has them all",
        "ADJUST": "moves nodes onto surfaces, which is not read",
        "MAPSOLUTION": "takes a deformed shape from another job, which is not read",
    }
)
"""Keywords after which the mesh of the analysis may be another."""

# first words of the keywords that are no mesh, as the keyword reference has them
_OTHERS = frozenset(
    """ACOUSTIC ADAPTIVE ADJUST AMPLITUDE ANISOTROPIC ANNEAL AQUA ASSEMBLY ASYMMETRIC AXIAL BASE BASELINE BEAM BIAXIAL
    BLOCKAGE BOND BOUNDARY BRITTLE BUCKLE BUCKLING BULK BUSHING CAP CAPACITY CAST CAVITY CECHARGE CECURRENT CENTROID
    CFD CFILM CFLOW CFLUX CHANGE CHARGED CLAY CLEARANCE CLOAD CO-SIMULATION COHESIVE COMBINED COMPLEX COMPOSITE
    COMPRESSIVE CONCRETE CONDUCTIVITY CONNECTOR CONSTANT CONSTRAINT CONTACT CONTOUR CONTROLS CONVERGENCE CORRELATION
    COUPLED COUPLING CRACK CRADIATE CREEP CRUSHABLE CYCLED CYCLIC DAMAGE DAMPING DASHPOT DEBOND DECHARGE DECURRENT
    DEFORMATION DENSITY DEPVAR DESIGN DETONATION DFLOW DFLUX DIAGNOSTICS DIELECTRIC DIFFUSIVITY DIRECT DISPLAY
    DISTRIBUTING DISTRIBUTION DLOAD DRAG DRUCKER DSA DSECHARGE DSECURRENT DSFLOW DSFLUX DSLOAD DYNAMIC EL ELASTIC
    ELECTRICAL ELECTROMAGNETIC ELECTROSTATIC ELEMENT ELSTIFFNESS EMBEDDED EMISSIVITY END ENERGY ENRICHMENT EOS
    EPJOINT EQUATION EULERIAN EXPANSION EXTREME FABRIC FAIL FAILURE FASTENER FEASIBLE FIELD FILE FILM FILTER FIXED
    FLEXIBLE FLOW FLUID FOUNDATION FRACTURE FRAME FREQUENCY FRICTION GAP GAS GASKET GEL GEOMETRIC GEOSTATIC GLOBAL
    GREEN HCF HEADING HEAT HEATCAP HOURGLASS HYPERELASTIC HYPERFOAM HYPOELASTIC HYSTERESIS IMPEDANCE INCIDENT
    INCREMENTATION INELASTIC INERTIA INITIAL INTEGRATED INTERFACE ITS JOINT JOINTED JOULE KAPPA KINEMATIC LATENT
    LOAD LOADING LOW M1 M2 MAGNETIC MAGNETOSTATIC MAP MASS MATERIAL MATRIX MEDIA MEMBRANE MODAL MODE MODEL MOHR
    MOISTURE MOLECULAR MONITOR MOTION MPC MULLINS NETWORK NO NODAL NODE NONSTRUCTURAL NORMAL NUCLEATION OBJECTIVE
    ORIENTATION ORNL OUTPUT PARTICLE PERFECTLY PERIODIC PERMEABILITY PERMITTIVITY PERTURBATION PHYSICAL
    PIEZOELECTRIC PIPE PLANAR PLASTIC PML POROUS POST POTENTIAL PRE-TENSION PREPRINT PRESSURE PRESTRESS PRINT
    PROBABILITY PSD RADIATE RADIATION RANDOM RATE RATIOS REBAR REFLECTION RELEASE RESPONSE RESTART RETAINED RIGID
    ROBUST ROTARY SECTION SELECT SENSITIVITY SFILM SFLOW SHEAR SHELL SIMPEDANCE SIMPLE SLIDE SLOAD SOILS SOLID
    SOLUBILITY SOLUTION SOLVER SORPTION SPECIFIC SPECTRUM SPH SPRING SRADIATE STATIC STEADY STEP STIFFENER STRESS
    SUBMODEL SUBSTRUCTURE SURFACE SWELLING SYMMETRIC TABLE TEMPERATURE TENSILE TENSION THERMAL TIE TIME TORQUE
    TRACER TRANSIENT TRANSVERSE TRIAXIAL TRS UEL UNDEX UNIAXIAL UNLOADING USER VALUES VARIABLE VIEWFACTOR VISCO
    VISCOELASTIC VISCOUS VOID VOLUMETRIC WAVE WIND""".split()  # noqa: SIM905 - a table of words reads better than a list of strings
)


def keyword_problem(keyword: str) -> tuple[str, bool]:
    """What is wrong with a keyword that is not read, and whether the mesh may differ for it; empty where nothing is."""
    bare = keyword.replace(" ", "")
    if bare in REFUSED:
        return f"*{keyword} {REFUSED[bare]}", True
    if bare in _TOLD:
        return f"*{keyword} {_TOLD[bare]}", False
    words = keyword.split()
    if not words:
        return "a keyword line without a keyword", True
    near = difflib.get_close_matches(bare, [*PARAMETERS, *REFUSED], n=1, cutoff=0.72)
    if words[0] in _OTHERS and (len(words) > 1 or words[0] not in ("NODE", "ELEMENT", "SURFACE")):
        return "", False
    if near:
        return f"*{keyword} is no keyword; did you mean *{near[0]}?", True
    return f"*{keyword} is no keyword that is known here; it is left out", False


def parameters(keyword: str, given: Mapping[str, str], where: str) -> dict[str, str]:
    """Parameters of a keyword that is read, by their full names: Abaqus takes any beginning that tells them apart.

    Raises
    ------
    MeshFileError
        For a parameter that the keyword does not have.
    """
    known = PARAMETERS[keyword.replace(" ", "")]
    result = {}
    for name, value in given.items():
        full = [k for k in known if k == name] or [k for k in known if len(name) >= 3 and k.startswith(name)]
        if len(full) != 1:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known are: {', '.join(known) or 'none'}"
            raise MeshFileError(f"{where}: *{keyword} has no parameter {name!r} that is known here{hint}")
        result[full[0]] = value
    return result
