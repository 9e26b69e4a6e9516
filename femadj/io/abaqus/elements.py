"""Element types and face numbers of Abaqus and CalculiX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from femadj.mesh.reference import CELL_TYPES

# element families: (pattern of the type, {number of nodes in the name: meshio's name})
_PLANE: Mapping[str, str] = MappingProxyType({"3": "triangle", "4": "quad", "6": "triangle6", "8": "quad8"})
_FAMILIES: tuple[tuple[str, Mapping[str, str]], ...] = (
    (
        r"(?:C3D|DC3D|AC3D|DCC3D|Q3D)(\d+)[A-Z]*",
        {"4": "tetra", "5": "pyramid", "6": "wedge", "8": "hexahedron", "10": "tetra10", "15": "wedge15",
         "20": "hexahedron20", "27": "hexahedron27"},
    ),
    (r"(?:CPS|CPE|CPEG|DC2D|AC2D|CAX|DCAX|CGAX|ACAX)(\d+)[A-Z]*", _PLANE),
    (r"(?:S|DS|M3D|SFM3D|R3D|STRI)(3|4|6|8|9|65)[A-Z]*5?", {**_PLANE, "9": "quad9", "65": "triangle6"}),
    (r"(?:T2D|T3D|DC1D|R2D)(\d)[A-Z]*", {"2": "line", "3": "line3"}),
)  # fmt: skip
_POINT_ELEMENTS = r"(?:MASS|HEATCAP|ROTARYI|SPRING|DASHPOT|CONN|JOINT|DCOUP|GAP|ITT|ITS|IT2D|RB2D|RB3D).*"
_OTHER_SIZES: Mapping[str, int] = MappingProxyType({"pyramid": 5, "wedge15": 15})

# corner nodes (zero-based) of the faces S1, S2, ...
FACES: Mapping[str, tuple[tuple[int, ...], ...]] = MappingProxyType(
    {
        "triangle": ((0, 1), (1, 2), (2, 0)),
        "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
        "tetra": ((0, 1, 2), (0, 3, 1), (1, 3, 2), (2, 3, 0)),
        "wedge": ((0, 1, 2), (3, 5, 4), (0, 3, 4, 1), (1, 4, 5, 2), (2, 5, 3, 0)),
        "hexahedron": ((0, 1, 2, 3), (4, 7, 6, 5), (0, 4, 5, 1), (1, 5, 6, 2), (2, 6, 7, 3), (3, 7, 4, 0)),
    }
)


def element_type(name: str) -> str | None:
    """meshio's name of an Abaqus element type; None for those that are no cells (masses, springs, ...).

    Raises
    ------
    KeyError
        For element types without a counterpart.
    """
    upper = name.upper()
    if re.fullmatch(_POINT_ELEMENTS, upper):
        return None
    beam = re.fullmatch(r"B(?:21|22|23|31|32|33)[A-Z]*", upper)
    if beam:
        return "line3" if upper[2] == "2" else "line"
    for pattern, known in _FAMILIES:
        match = re.fullmatch(pattern, upper)
        if match and match[1] in known:
            return known[match[1]]
    raise KeyError(name)


def n_nodes(cell_type: str) -> int:
    """Nodes of a cell that ``element_type`` names."""
    return _OTHER_SIZES[cell_type] if cell_type in _OTHER_SIZES else CELL_TYPES[cell_type].n_nodes


def is_axisymmetric(name: str) -> bool:
    """Whether the elements of a type are rings."""
    return bool(re.match(r"(?:CAX|DCAX|CGAX|ACAX)", name.upper()))


def is_shell(name: str) -> bool:
    """Whether the elements of a type that makes plane cells are shells or membranes."""
    return not re.match(r"(?:CPS|CPE|DC2D|AC2D)", name.upper())
