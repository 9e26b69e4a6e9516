"""Unknowns of any scikit-fem element on a mesh of one block: scalar, vector and mixed, H1, H(div), H(curl), broken.

Reference shape functions and the numbering of unknowns are scikit-fem's. How they look on a cell that has moved is
worked out here, for any set of node coordinates: values and gradients of H1 functions, values and divergence of H(div)
functions (contravariant Piola map), values and curl of H(curl) functions (covariant Piola map). Each element is
compared once with scikit-fem's own functions, so that an element of another kind is refused and not misread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import skfem
from scipy.sparse import csr_array
from skfem.assembly import Dofs
from skfem.element import ElementComposite, ElementDG, ElementH1, ElementHcurl, ElementHdiv, ElementVector

from femadj.base.arguments import described
from femadj.base.arrays import FloatArray
from femadj.errors import FormError, ProblemError
from femadj.mesh import Mesh
from femadj.mesh.reference import Table, cell_table, cell_type, quadrature, shape_functions, skfem_element
from femadj.mesh.skfem_bridge import SkfemCells, skfem_cells
from femadj.mesh.topology import FacetSet, match_rows, padded_key
from femadj.space.discretisation import Discretisation
from femadj.space.element_map import ElementMap, ReferenceFunctions, Side
from femadj.space.maps import FieldMap, Over
from femadj.space.parts import Kind, Part
from femadj.space.pattern import Pattern
from femadj.space.region import Domain, is_large

Int32Array = npt.NDArray[np.int32]
IntArray = npt.NDArray[np.int64]
_KINDS: tuple[tuple[Kind, Any], ...] = (("H1", ElementH1), ("H(div)", ElementHdiv), ("H(curl)", ElementHcurl))


def _kind(element: Any) -> Kind:
    inner = element.elem if isinstance(element, ElementDG) else element
    if isinstance(inner, skfem.Element):
        for kind, base in _KINDS:
            if isinstance(inner, base) and type(inner).gbasis is base.gbasis:
                return kind
    raise FormError(
        f"element {type(inner).__name__} is not supported: its unknowns depend on the geometry of the cell, it has "
        "second derivatives, or its values are neither functions nor vectors. Use H1, H(div), H(curl) or discontinuous "
        "elements, their vectors (ElementVector) and mixtures (ElementComposite), and mixed variables in place of "
        "second derivatives"
    )


def default_names(n_parts: int) -> tuple[str, ...]:
    """Names of the parts where none are given."""
    return ("u",) if n_parts == 1 else ("u", "p") if n_parts == 2 else tuple(f"u{i}" for i in range(n_parts))


def names_of(given: Any, n_parts: int) -> tuple[str, ...]:
    """Names of the parts as given; FormError where they do not fit."""
    names = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    fit = all(isinstance(n, str) and n.isidentifier() for n in names)
    if not fit or len(names) != n_parts or len(set(names)) != n_parts:
        wanted = "hold one name" if n_parts == 1 else f"be {n_parts} different names, one a part,"
        raise FormError(f"names must {wanted} of variables, not {described(given)}")
    return names


def parts_of(element: Any, names: Sequence[str] | None) -> tuple[Part, ...]:
    """Take an element apart.

    Raises
    ------
    FormError
        For elements of other kinds, and for names that do not fit.
    """
    if isinstance(element, type):
        raise FormError(f"element must be an object: {element.__name__}()")
    if not isinstance(element, skfem.Element):
        raise FormError(f"element must be a number of components, 'vector', or a scikit-fem element, not {element!r}")
    dim = int(element.refdom.dim())
    pieces = list(element.elems) if isinstance(element, ElementComposite) else [element]
    given = default_names(len(pieces)) if names is None else names_of(names, len(pieces))
    owners = _owners(pieces, element.refdom)
    parts: list[Part] = []
    for number, piece in enumerate(pieces):
        if isinstance(piece, ElementComposite):
            raise FormError("an ElementComposite inside an ElementComposite is not supported: list all parts in one")
        vector = isinstance(piece, ElementVector)
        inner = piece.elem if vector else piece
        kind = _kind(inner)
        if vector and (kind != "H1" or piece.dim < 2):
            raise FormError(
                f"ElementVector({type(inner).__name__}) : only vectors of two or more H1 fields are supported"
            )
        if not _conforming(inner):
            raise FormError(
                f"element {type(inner).__name__} has several unknowns on a facet or edge, which neighbouring cells of "
                f"shape {element.refdom.name.lower()} may number differently; use triangles or tetrahedra"
            )
        components = int(piece.dim) if vector else 1
        local = np.array([i for i, owner in enumerate(owners) if owner == number], dtype=np.int64)
        first = parts[-1].slots.stop if parts else 0
        parts.append(Part(given[number], kind, inner, vector, components, local.reshape(-1, components), dim, first))
    return tuple(parts)


def _owners(pieces: Sequence[Any], refdom: Any) -> list[int]:
    """Part that each unknown of a cell belongs to: by vertices, edges, facets and the inside, as scikit-fem counts."""
    owners: list[int] = []
    n_edges = refdom.nedges if refdom.dim() == 3 else 0
    for count, name in ((refdom.nnodes, "nodal"), (n_edges, "edge"), (refdom.nfacets, "facet"), (1, "interior")):
        one = [number for number, piece in enumerate(pieces) for _ in range(getattr(piece, f"{name}_dofs"))]
        owners += count * one
    return owners


def _conforming(element: Any) -> bool:
    """Whether neighbours agree on the order of unknowns on what they share."""
    if element.refdom.nnodes == element.refdom.dim() + 1:
        return True  # simplices have ascending corners
    return bool(element.facet_dofs <= 1 and element.edge_dofs <= 1)


@dataclass(frozen=True, eq=False)
class Numbering:
    """The unknowns of an element space one by one.

    Attributes
    ----------
    part, component : (n_dofs,) int64
        What each of them is.
    is_value : (n_dofs,) bool
        Whether it is the value of its field at its location.
    location : (n_dofs, n_nodes) sparse
        Weights of the mesh nodes in its location.
    """

    part: IntArray
    component: IntArray
    is_value: npt.NDArray[np.bool_]
    location: csr_array


@dataclass(frozen=True, eq=False)
class ElementSpace(Discretisation):
    """A mesh of one block with the unknowns of a scikit-fem element.

    Attributes
    ----------
    element : skfem.Element
    cells_of_skfem : SkfemCells
        The mesh in scikit-fem's terms; triangles and tetrahedra have ascending corners there.
    dofs : skfem.Dofs
    parts : tuple of Part
    isoparametric : bool
        Whether the unknowns are values at the mesh nodes and are numbered by them, ``(n_nodes, nc)``; otherwise they
        have scikit-fem's numbers and shape ``(n_dofs, 1)``.
    rows : (n_cells, k) int32
        Rows of the unknowns of every cell.
    orientation : (n_cells,)
        Sign of the Jacobian of scikit-fem's cells.
    interior : (n,) int64
        Facets between two cells that forms are integrated over, in scikit-fem's numbers.
    """

    element: Any
    cells_of_skfem: SkfemCells
    dofs: Any
    parts: tuple[Part, ...]
    isoparametric: bool
    rows: Int32Array
    orientation: FloatArray
    interior: IntArray

    @classmethod
    def on(
        cls,
        mesh: Mesh,
        element: Any,
        names: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        isoparametric: bool = False,
    ) -> ElementSpace:
        """Number the unknowns of an element on a mesh.

        Raises
        ------
        FormError
            For elements that do not fit the cells, or whose functions femadj does not know how to move.
        UnsupportedCellError
            For meshes of several blocks, and of cells that scikit-fem has no mesh of.
        """
        parts = parts_of(element, names)
        cells = skfem_cells(mesh.points, mesh.blocks, ascending=True)
        if element.refdom is not cells.mesh.refdom:
            raise FormError(
                f"element {describe(element)} lives on {element.refdom.name.lower()} cells, the mesh has "
                f"{mesh.blocks[0].type} cells"
            )
        dofs = Dofs(cells.mesh, element)
        if isoparametric:
            rows, n_components = cells.nodes, parts[0].components
            rows = np.ascontiguousarray(rows[:, _order_of_functions(mesh.blocks[0].type)])
        else:
            rows, n_components = np.ascontiguousarray(np.asarray(dofs.element_dofs).T, dtype=np.int32), 1
        base = Discretisation.of(mesh, n_components, threads if isoparametric else 1)
        space = cls(
            mesh=mesh,
            n_components=n_components,
            owner=base.owner,
            n_parts=base.n_parts,
            block_parts=base.block_parts,
            element=element,
            cells_of_skfem=cells,
            dofs=dofs,
            parts=parts,
            isoparametric=isoparametric,
            rows=rows,
            orientation=mesh.orientation * cells.parity,
            interior=np.empty(0, dtype=np.int64),
        )
        space._require_known_functions()
        return space

    # ------------------------------------------------------------------ the unknowns
    @property
    def shape(self) -> tuple[int, int]:
        """Shape of arrays of unknowns."""
        return (self.mesh.n_nodes, self.n_components) if self.isoparametric else (int(self.dofs.N), 1)

    @property
    def nodal(self) -> bool:
        """Whether the unknowns are values at the nodes of the mesh."""
        return self.isoparametric

    @property
    def field_parts(self) -> tuple[Part, ...]:
        """The parts of the element."""
        return self.parts

    def pattern(self, *, symmetric: bool) -> Pattern:
        """Sparsity pattern: unknowns of a cell, and those of both cells at the facets of ``interior``."""
        blocks = [block.nodes for block in self.mesh.blocks] if self.isoparametric else [self.rows]
        if len(self.interior):
            first, second = self.neighbours
            blocks.append(np.hstack([self.rows[first], self.rows[second]]))
        return Pattern.from_cells(blocks, self.shape[0], self.n_components, symmetric=symmetric)

    @property
    def neighbours(self) -> tuple[IntArray, IntArray]:
        """First and second cell of every facet of ``interior``."""
        f2t = np.asarray(self.cells_of_skfem.mesh.f2t)[:, self.interior].astype(np.int64)
        return f2t[0], f2t[1]

    def numbering(self) -> Numbering:
        """What every unknown is and where it lives; for spaces that are not isoparametric."""
        n = self.shape[0]
        part, component = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        is_value = np.zeros(n, dtype=bool)
        cell, local = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        positions = np.full((self.rows.shape[1], self.mesh.dim), np.nan)
        for number, p in enumerate(self.parts):
            where, exact = _locations(p)
            for i in range(p.components):
                for function, column in enumerate(p.local[:, i]):
                    rows = self.rows[:, column]
                    part[rows], component[rows], is_value[rows] = number, i, exact[function]
                    cell[rows], local[rows] = np.arange(len(rows)), column
                    positions[column] = where[function]
        known = np.isfinite(positions).all(axis=1)
        weights = np.zeros((len(positions), self.cells_of_skfem.nodes.shape[1]))
        weights[known], _ = shape_functions(self.mesh.blocks[0].type, positions[known])
        weights[np.abs(weights) < 1e-14] = 0.0
        k = weights.shape[1]
        location = csr_array(
            (weights[local].ravel(), self.cells_of_skfem.nodes[cell].ravel(), k * np.arange(n + 1)),
            shape=(n, self.mesh.n_nodes),
        )
        location.sum_duplicates()
        location.eliminate_zeros()
        return Numbering(part, component, is_value, location)

    def unknowns_on(self, group: str, numbering: Numbering) -> IntArray:
        """Unknowns that belong to a group: on its facets and their edges and corners, in its cells, or at its nodes."""
        mesh, dofs = self.mesh, self.dofs
        nodes = mesh.nodes_of(group)  # raises for unknown and empty groups
        if group in mesh.node_groups:
            location = numbering.location
            single = (np.diff(location.indptr) == 1) & (np.abs(location.sum(axis=1) - 1.0) < 1e-12)
            at = np.full(self.shape[0], -1, dtype=np.int64)
            at[single] = location.indices[location.indptr[:-1][single]]
            marked = np.zeros(mesh.n_nodes + 1, dtype=bool)
            marked[nodes] = True
            return np.flatnonzero(marked[at])
        if group in mesh.facet_groups:
            facets = self.facet_numbers(mesh.facets(group))
            view = dofs.get_facet_dofs(facets)
            return np.sort(np.asarray(view.flatten(), dtype=np.int64))
        return np.unique(self.rows[mesh.cells_of(group)]).astype(np.int64)

    def name_of(self, unknown: int) -> str:
        """Say what and where an unknown is."""
        if self.isoparametric:
            node, component = divmod(unknown, self.n_components)
            where, part = self.mesh.points[node], self.parts[0]
            at = f"node {int(self.mesh.node_ids[node])} at "
        else:
            numbering = self.numbering()
            part, component = self.parts[numbering.part[unknown]], int(numbering.component[unknown])
            where = (numbering.location[[unknown]] @ self.mesh.points)[0]
            at = f"unknown {unknown} at "
        text = ", ".join(f"{c:.6g}" for c in where)
        name = f"{part.name}.{part.component_names[component]}" if part.vector else part.name
        return f"{at}({text}), {name}"

    def part(self, name: str, u: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Unknowns of a part, ``(n, nc)``, and where they live, ``(n, dim)`` (NaN: nowhere in particular)."""
        self._require_part(name)
        if self.isoparametric:
            return u, points
        number, numbering = self.part_names.index(name), self.numbering()
        first = np.flatnonzero((numbering.part == number) & (numbering.component == 0))
        values = u[:, 0][first[:, None] + np.arange(self.parts[number].components)]
        locations = np.asarray(numbering.location[first] @ points)
        locations[np.diff(numbering.location.indptr)[first] == 0] = np.nan
        return values, locations

    def nodal_values(self, name: str, u: FloatArray, points: FloatArray) -> FloatArray:
        """Values of a part at the nodes of the mesh, ``(n_nodes, nc)``: the mean over the cells around a node."""
        self._require_part(name)
        if self.isoparametric:
            return u
        part = self.parts[self.part_names.index(name)]
        kind = cell_type(self.mesh.blocks[0].type)
        values, gradients = shape_functions(kind.name, kind.nodes)
        table = Table(values[None], gradients[None], np.zeros((1, len(values))), np.zeros((1, kind.dim)))
        cells = np.arange(self.mesh.n_cells, dtype=np.int32)
        side = self._side(cells, np.zeros_like(cells), table, kind.nodes[None])
        total = np.zeros((self.mesh.n_nodes, len(part.value_slots)))
        for piece in ElementMap((side,), 1, 0, cells.astype(np.int64)).pieces():
            here = piece.sides[0].values(part, u[:, 0], points)
            np.add.at(total, piece.domains[0].nodes[piece.domains[0].cell], here)
        count = np.bincount(self.cells_of_skfem.nodes.ravel(), minlength=self.mesh.n_nodes)
        return total / count[:, None]

    def skfem_mesh(self, points: FloatArray) -> skfem.Mesh:
        """The mesh for scikit-fem, with the corners in the order that the numbering rests on.

        ``skfem.Basis(space.skfem_mesh(points), element)`` interprets the unknowns of a solution.
        """
        return skfem_cells(points, self.mesh.blocks, ascending=True).mesh

    # ------------------------------------------------------------------ where forms are integrated
    def cells(
        self, rule: Literal["stiffness", "mass"], group: str | None = None, order: int | None = None
    ) -> list[Domain]:
        """Domains for fields with values at the mesh nodes; ProblemError for others."""
        self.require_nodal()
        return super().cells(rule, group, order)

    def facets(self, facets: FacetSet, order: int | None = None) -> list[Domain]:
        """Domains for fields with values at the mesh nodes; ProblemError for others."""
        self.require_nodal()
        return super().facets(facets, order)

    def require_nodal(self) -> None:
        """ProblemError where unknowns are not values at the mesh nodes."""
        if not self.isoparametric:
            raise ProblemError(
                f"the unknown ({describe(self.element)}) has no values at the mesh nodes: built-in loads and responses "
                "of fields do not fit; write loads as linear forms of the Form"
            )

    def maps(
        self, over: Over, group: str | None = None, order: int | None = None, *, gradients: bool = False
    ) -> list[FieldMap]:
        """Field maps on a region; see ``Discretisation.maps``. With values at the mesh nodes: the compiled ones."""
        if self.isoparametric and over != "interior facets":
            return super().maps(over, group, order, gradients=gradients)
        return [self.element_map(over, group, order)]

    def element_map(self, over: Over, group: str | None = None, order: int | None = None) -> ElementMap:
        """The field map by tables of shape functions, for any element."""
        block = 0
        if over == "cells":
            sides: tuple[Side, ...] = (self.cell_side(group, order),)
            positions = sides[0].domain.cell.astype(np.int64)
        elif over == "facets":
            sides = (self.facet_side(self.mesh.boundary() if group is None else self.mesh.facets(group), order),)
            positions = sides[0].domain.cell.astype(np.int64)
        else:
            facets = self.interior_facets(group)
            f2t = np.asarray(self.cells_of_skfem.mesh.f2t)[:, facets].astype(np.int64)
            sides = tuple(self._facet_side(facets, cells, order) for cells in f2t)
            block, positions = len(self.mesh.blocks), np.searchsorted(self.interior, facets)
        return ElementMap(sides, self.n_components, block, positions)

    @property
    def default_order(self) -> int:
        """Degree of quadrature where none is asked for: twice the degree of the element."""
        return 2 * int(self.element.maxdeg)

    def cell_side(self, group: str | None, order: int | None) -> Side:
        """Cells of a group (all when ``None``)."""
        cells = np.arange(self.mesh.n_cells) if group is None else self.mesh.cells_of(group)
        name = self.mesh.blocks[0].type
        table = cell_table(name, self.default_order if order is None else order)
        xi, _ = quadrature(cell_type(name).shape, self.default_order if order is None else order)
        return self._side(cells.astype(np.int32), np.zeros(len(cells), dtype=np.int32), table, xi[None])

    def facet_side(self, facets: FacetSet, order: int | None) -> Side:
        """Facets of the boundary; FormError for facets between two cells, where fields may have two values."""
        if facets.interior.any():
            raise FormError(
                f"{int(facets.interior.sum())} of the facets lie between two cells: integrate over them with "
                "over='interior facets', and tell the sides apart by w.idx"
            )
        return self._facet_side(self.facet_numbers(facets), facets.cells, order)

    def interior_facets(self, group: str | None) -> IntArray:
        """scikit-fem's numbers of the facets between two cells: of a facet group, of a cell group, or all."""
        f2t = np.asarray(self.cells_of_skfem.mesh.f2t)
        inside = f2t[1] >= 0
        if group is not None and group in self.mesh.facet_groups:
            found = self.facet_numbers(self.mesh.facets(group))
            if not inside[found].all():
                raise FormError(
                    f"facet group {group!r} holds {int((~inside[found]).sum())} facets on the boundary, which have one "
                    "cell; interior facets have two"
                )
            return np.sort(found)
        if group is not None:
            marked = np.zeros(self.mesh.n_cells, dtype=bool)
            marked[self.mesh.cells_of(group)] = True
            inside &= marked[f2t[0]] & marked[f2t[1]]
        found = np.flatnonzero(inside)
        if len(found) == 0:
            raise FormError(f"there are no facets between two cells{'' if group is None else f' of {group!r}'}")
        return found

    def facet_numbers(self, facets: FacetSet) -> IntArray:
        """scikit-fem's numbers of facets, in the order given."""
        block = self.mesh.blocks[0].reference
        wanted = np.empty((len(facets), 4), dtype=np.int64)
        for number in range(len(block.facets)):
            at = np.flatnonzero(facets.local == number)
            corners = list(block.facets[number][: cell_type(block.facet_types[number]).n_corners])
            nodes = self.mesh.blocks[0].nodes[facets.cells[at]][:, corners]
            wanted[at] = padded_key(self.cells_of_skfem.vertex[nodes])
        index, _ = match_rows(padded_key(np.asarray(self.cells_of_skfem.mesh.facets).T), wanted)
        return index

    def _facet_side(self, facets: IntArray, cells: IntArray, order: int | None) -> Side:
        mesh = self.cells_of_skfem.mesh
        name = self.mesh.blocks[0].type
        kind = cell_type(name)
        corners = np.asarray(mesh.facets)[:, facets].T  # (m, k) vertices
        of_cell = np.asarray(mesh.t)[:, cells].T
        local = (of_cell[:, None, :] == corners[:, :, None]).argmax(axis=2)
        variants, variant = np.unique(local, axis=0, return_inverse=True)
        shape = {2: "line", 3: "triangle", 4: "quad"}[corners.shape[1]]
        eta, weights = quadrature(shape, self.default_order if order is None else order)
        phi, dphi = shape_functions(shape, eta)
        inner = np.asarray(skfem_element(kind.shape).doflocs)
        xi, normals = [], []
        for variant_corners in variants:
            position = inner[variant_corners]
            xi.append(phi @ position)
            tangents = np.einsum("ad,ak->dk", position, dphi[0])
            normal = np.array([tangents[1, 0], -tangents[0, 0]]) if kind.dim == 2 else np.cross(*tangents.T)
            outwards = np.sign(normal @ (position.mean(axis=0) - inner.mean(axis=0)))
            normals.append(outwards * normal)
        tables = [shape_functions(name, x) for x in xi]
        table = Table(
            np.array([values for values, _ in tables]),
            np.array([gradients for _, gradients in tables]),
            np.tile(weights, (len(xi), 1)),
            np.array(normals),
        )
        return self._side(cells.astype(np.int32), variant.ravel().astype(np.int32), table, np.array(xi))

    def _side(self, cells: Int32Array, local: Int32Array, table: Table, xi: FloatArray) -> Side:
        items = np.arange(len(cells), dtype=np.int32)
        domain = Domain(
            block=0,
            nodes=self.cells_of_skfem.nodes,
            field=self.rows,
            cell=cells,
            local=local,
            orientation=self.orientation,
            geometry=table,
            shape=table,
            owner=np.zeros(self.mesh.n_nodes, dtype=np.int32),
            parts=(items,),
            first_cell=0,
            specialised=is_large(len(cells), self.rows.shape[1]),
        )
        return Side(domain, self.parts, tuple(self._functions(part, xi) for part in self.parts))

    def _functions(self, part: Part, xi: FloatArray) -> ReferenceFunctions:
        n_variants, nq, dim = xi.shape
        x = np.ascontiguousarray(xi.reshape(-1, dim).T)
        values, derivatives = [], []
        for i in range(len(part.local)):
            phi, dphi = part.element.lbasis(x, i)
            values.append(np.broadcast_to(np.asarray(phi, dtype=float), (*np.shape(phi)[:-1], x.shape[1])))
            derivatives.append(np.broadcast_to(np.asarray(dphi, dtype=float), (*np.shape(dphi)[:-1], x.shape[1])))

        def arranged(functions: list[FloatArray]) -> FloatArray:
            array = np.array([f.reshape(-1, n_variants, nq) for f in functions])
            return np.ascontiguousarray(array.transpose(2, 3, 0, 1))

        signs = None
        if part.kind != "H1":
            inner = part.element.elem if isinstance(part.element, ElementDG) else part.element
            mapping = skfem.MappingIsoparametric(self.cells_of_skfem.mesh, self.cells_of_skfem.mesh.elem())
            columns = [inner.orient(mapping, i) for i in range(len(part.local))]
            signs = np.array(columns, dtype=float).T
        return ReferenceFunctions(arranged(values), arranged(derivatives), signs)

    def _require_known_functions(self) -> None:
        """Compare the shape functions with scikit-fem's own on a few cells."""
        n = min(4, self.mesh.n_cells)
        cells = np.unique(np.linspace(0, self.mesh.n_cells - 1, n).astype(np.int32))
        name = self.mesh.blocks[0].type
        xi, _ = quadrature(cell_type(name).shape, 2)
        side = self._side(cells, np.zeros(len(cells), dtype=np.int32), cell_table(name, 2), xi[None])
        found, _ = side.functions_at(self.mesh.points)
        mesh = self.cells_of_skfem.mesh
        mapping = skfem.MappingIsoparametric(mesh, skfem_element(name))
        for column in range(found.shape[3]):
            fields = self.element.gbasis(mapping, np.ascontiguousarray(xi.T), column, tind=cells)
            for part, field in zip(self.parts, fields, strict=True):
                expected = _by_slots(part, field, found.shape[:2])
                here = found[:, :, part.slots, column]
                size = max(float(np.abs(expected).max()), float(np.abs(here).max()))
                if np.abs(here - expected).max() > 1e-9 * size:
                    raise FormError(
                        f"the shape functions of {type(part.element).__name__} are not those of a {part.kind} element "
                        "that femadj knows how to move with the mesh; use another element"
                    )


def _by_slots(part: Part, field: Any, shape: tuple[int, int]) -> FloatArray:
    """scikit-fem's field in the order of slots, ``(m, nq, n_slots)``."""
    result = np.empty((part.n_slots, *shape))
    value = np.asarray(field).reshape(-1, *shape)
    if part.kind == "H1":
        gradient = np.asarray(field.grad).reshape(-1, part.dim, *shape)
        by_component = result.reshape(part.components, 1 + part.dim, *shape)
        by_component[:, 0], by_component[:, 1:] = value, gradient
    else:
        result[: part.dim] = value
        derivative = field.div if part.kind == "H(div)" else field.curl
        result[part.dim :] = np.asarray(derivative).reshape(-1, *shape)
    return result.transpose(1, 2, 0)


def _locations(part: Part) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Reference positions of the unknowns of a part (NaN: none), and whether they are values there."""
    n = len(part.local)
    where = np.full((n, part.dim), np.nan)
    given = np.asarray(getattr(part.element, "doflocs", np.empty((0, part.dim))), dtype=float)
    if given.shape != where.shape:
        return where, np.zeros(n, dtype=bool)
    if part.kind != "H1":
        return given, np.zeros(n, dtype=bool)
    x = np.ascontiguousarray(given.T)
    values = np.array([np.broadcast_to(part.element.lbasis(x, i)[0], (n,)) for i in range(n)]).T
    return given, np.abs(values - np.eye(n)).max(axis=1) < 1e-12


def _order_of_functions(name: str) -> IntArray:
    """Node of a cell, in meshio's order, of every shape function of scikit-fem's element of the cell."""
    target = np.asarray(skfem_element(name).doflocs)
    return np.abs(target[:, None] - cell_type(name).nodes[None]).max(axis=2).argmin(axis=1)


def describe(element: Any) -> str:
    """Name of an element."""
    if isinstance(element, ElementComposite):
        return " * ".join(describe(e) for e in element.elems)
    if isinstance(element, (ElementVector, ElementDG)):
        return f"{type(element).__name__}({describe(element.elem)})"
    return type(element).__name__
