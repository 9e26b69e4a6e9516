"""Element cards of Nastran: which cells they are, and which are none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from femadj.errors import MeshFileError, UnsupportedCellError
from femadj.io.cells import EDGES_LAST, WEDGE_EDGES_LAST
from femadj.io.nastran.cards import Card


class Shape(NamedTuple):
    """Cells of a card: by the number of their nodes, of which the corners come first."""

    corners: int
    cells: Mapping[int, str]
    flat: bool = False


_QUAD = Shape(4, {4: "quad", 8: "quad8", 9: "quad9"}, True)
_TRIANGLE = Shape(3, {3: "triangle", 6: "triangle6"}, True)
_QUAD4 = Shape(4, {4: "quad"}, True)
_TRIA3 = Shape(3, {3: "triangle"}, True)
_LINE = Shape(2, {2: "line"}, True)

SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "CTETRA": Shape(4, {4: "tetra", 10: "tetra10"}),
        "CHEXA": Shape(8, {8: "hexahedron", 20: "hexahedron20"}),
        "CPENTA": Shape(6, {6: "wedge", 15: "wedge15"}),
        "CPYRAM": Shape(5, {5: "pyramid", 13: "pyramid13"}),
        "CPYRA": Shape(5, {5: "pyramid", 13: "pyramid13"}),
        **dict.fromkeys(("CQUAD4", "CQUADR", "CSHEAR", "CPLSTN4", "CPLSTS4"), _QUAD4),
        **dict.fromkeys(("CTRIA3", "CTRIAR", "CPLSTN3", "CPLSTS3"), _TRIA3),
        **dict.fromkeys(("CQUAD8", "CPLSTN8", "CPLSTS8"), Shape(4, {4: "quad", 8: "quad8"}, True)),
        **dict.fromkeys(("CTRIA6", "CPLSTN6", "CPLSTS6"), _TRIANGLE),
        **dict.fromkeys(("CQUAD", "CQUAD9"), _QUAD),
        **dict.fromkeys(("CBAR", "CBEAM", "CROD", "CTUBE", "CBEND"), _LINE),
        "CONROD": _LINE,
    }
)

ORDER: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"hexahedron20": EDGES_LAST, "wedge15": WEDGE_EDGES_LAST, "pyramid13": tuple(range(13))}
)

# elements between points, on boundaries or of fluids, which are no cells
_POINTS = re.compile(
    r"C(?:ELAS|DAMP|MASS)\d?[A-Z]?|CBUSH(?:1D|2D|T)?|CONM[12]|CVISC|CGAP|CWELD|CFAST|CSEAM|CINTC|CBEAM3|CHBDY[EGPIS]|"
    r"CHACBR|CAERO\d|CAXIF\d|CSLOT\d|CFLUID\d|CDUM\d|CRAC[23]D|CJOINT"
)
# other cards that begin with C
_NO_ELEMENTS = re.compile(
    r"CORD\w*|CONV\w?|CONTRLT|CSET\d?|CSUP\w*|CY(?:AX|JOIN|SYM)|CLOAD|CMFREE|CREEP|CS?SCHD\w*|CBARAO|CDDR\w*|CNV\w*|"
    r"CPSEC|CONEAX|COMPUDS|CONCTL|CONSPOT|CONFORM|CIRCLE|CAMPBLL|CAEFACT|CHECKEL|CMET\w*|CEND|CORD3G|COUP\w*|CNTN\w*|"
    r"CONTACT|CONTACTX?|CTRL\w*|CYSUP|CSHEAR|COHESIV\w*"
)


def is_point_element(name: str) -> bool:
    """Whether a card is an element that is no cell."""
    return bool(_POINTS.fullmatch(name))


def may_be_element(name: str) -> bool:
    """Whether a card that is not known could be an element: its cells would be missing."""
    return bool(re.fullmatch(r"C[A-Z]\S{1,6}", name)) and not _NO_ELEMENTS.fullmatch(name)


def cell_of(card: Card) -> tuple[str, list[int]]:
    """Cell type and grid points of an element card, in meshio's order.

    Raises
    ------
    MeshFileError
        For corners that are missing.
    UnsupportedCellError
        For cells with some of their mid-side nodes only.
    """
    shape = SHAPES[card.name]
    most = max(shape.cells)
    first = 1 if card.name == "CONROD" else 2
    words = card.data[first : first + most]
    if not shape.flat and any(card.data[first + most :]):
        raise MeshFileError(f"{card.where}: more than {most} grid points")
    while words and not words[-1]:
        words.pop()
    if "" in words[: shape.corners] or len(words) < shape.corners:
        raise MeshFileError(f"{card.where} {card.text(0)}: one of its {shape.corners} corners is missing")
    held = sum(1 for w in words if w)
    mids = held - shape.corners
    if held != len(words) or held not in shape.cells:
        raise UnsupportedCellError(
            f"{card.where} {card.text(0)}: {mids} mid-side nodes are not supported; all or none are"
        )
    joined = "".join(words)
    if joined.isdecimal() and joined.isascii() and len(max(words, key=len)) < 16:
        nodes = [int(w) for w in words]
    else:
        nodes = [card.integer(first + k) for k in range(held)]
    cell = shape.cells[held]
    if cell in ORDER:
        nodes = [nodes[k] for k in ORDER[cell]]
    return cell, nodes
