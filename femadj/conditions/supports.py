"""Supports: prescribed values at nodes, which stay attached to their nodes when the nodes move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from femadj.base.arguments import flag, real_array
from femadj.base.arrays import FloatArray, frozen
from femadj.base.calls import FieldLike, evaluate
from femadj.base.display import one_line
from femadj.errors import SupportError, choices, meant
from femadj.mesh import Mesh
from femadj.physics import Physics
from femadj.space.discretisation import Discretisation
from femadj.space.element import ElementSpace, Numbering, Part


@dataclass(frozen=True)
class Fixed:
    """Prescribed values at the nodes of a group, or of the unknowns of an element there.

    Parameters
    ----------
    group : str
        A node, facet or cell group; all its nodes are constrained. Of the unknowns of an element those are that lie at
        the nodes, on the facets (their edges and corners included) or in the cells.
    components : str, int or sequence, optional
        Which components: ``"x"``, ``"xz"``, ``("x", "z")``, or numbers that count from 0; all when left out. Of
        elements with named parts: a part ``"u"``, one component of it ``"u.x"``, or several of them ``("u.x", "p")``.
    value : number, array or function of x
        One value for all those components, one a component, one a node and component ``(n_group_nodes, n)``, or a
        function of ``x`` (see ``femadj.base.calls``) that is differentiated as the nodes move. Values of nodes follow
        the order in which a node group was given, and ascending node numbers for facet and cell groups. Where the
        unknowns are not values at points (H(div), H(curl), bubbles), only zero.
    overrides : bool
        Whether it prevails where it shares unknowns with supports that do not override: no slip on walls over the
        profile of an inlet. Otherwise supports that share unknowns must prescribe the same.
    """

    group: str
    components: str | int | Sequence[int | str] | None = None
    value: FieldLike = 0.0
    overrides: bool = False

    def component_indices(self, names: tuple[str, ...], part: str = "u") -> npt.NDArray[np.int64]:
        """Resolve the components of a field called ``part``; SupportError when one does not exist."""
        flag(self.overrides, f"Fixed({self.group!r}): overrides", SupportError)
        if self.components is None or (isinstance(self.components, str) and self.components == part):
            return np.arange(len(names))
        given: list[int | str] = (
            list(self.components)
            if isinstance(self.components, (Sequence, np.ndarray)) and not self._names_one(part)
            else [self.components]  # type: ignore[list-item]
        )
        given = [c.removeprefix(f"{part}.") if isinstance(c, str) else c for c in given]
        if not given:
            raise SupportError(f"Fixed({self.group!r}): components is empty")
        indices = []
        for c in given:
            if isinstance(c, str) and c in names:
                indices.append(names.index(c))
            elif isinstance(c, (int, np.integer)) and not isinstance(c, bool) and 0 <= c < len(names):
                indices.append(int(c))
            else:
                whole = self.components if isinstance(self.components, str) else ""
                asked = f"{c!r} of {whole!r}" if len(whole) > 1 else repr(c)
                advice = f"; numbers count from 0, which is {names[0]!r}" if isinstance(c, (int, np.integer)) else ""
                if isinstance(c, float):
                    advice = f"; a value is given by its name, Fixed({self.group!r}, value=...)"
                known = choices(whole or c, names)
                raise SupportError(f"Fixed({self.group!r}): there is no component {asked}; there are: {known}{advice}")
        if len(set(indices)) != len(indices):
            raise SupportError(f"Fixed({self.group!r}): components {given} repeat one")
        return np.array(indices, dtype=np.int64)

    def _names_one(self, part: str) -> bool:
        return isinstance(self.components, str) and self.components.startswith(f"{part}.")

    def parts(self, parts: Sequence[Part]) -> list[tuple[int, npt.NDArray[np.int64]]]:
        """Resolve components of the form ``part`` and ``part.component``: pairs of a part and its components."""
        flag(self.overrides, f"Fixed({self.group!r}): overrides", SupportError)
        known = [name for p in parts for name in (p.name, *(f"{p.name}.{c}" for c in p.component_names))]
        given = [self.components] if isinstance(self.components, str) else self.components
        if given is None:
            return [(number, np.arange(part.components)) for number, part in enumerate(parts)]
        if not isinstance(given, Sequence) or not given:
            raise SupportError(
                f"Fixed({self.group!r}): components must be names, of: {choices(None, known)}; not {given!r}"
            )
        chosen: dict[int, list[int]] = {}
        for name in given:
            if name not in known:
                there = f"{', '.join(known)}{meant(name, known)}"
                raise SupportError(f"Fixed({self.group!r}): there is no component {name!r}, only {there}")
            first, _, component = str(name).partition(".")
            number = next(n for n, p in enumerate(parts) if p.name == first)
            names = parts[number].component_names
            here = [names.index(component)] if component else list(range(parts[number].components))
            if set(here) & set(chosen.get(number, [])):
                raise SupportError(f"Fixed({self.group!r}): components {list(given)} repeat one")
            chosen.setdefault(number, []).extend(here)
        return [(number, np.array(components, dtype=np.int64)) for number, components in chosen.items()]


@dataclass(frozen=True, eq=False)
class Prescribed:
    """Prescribed values at given points.

    Attributes
    ----------
    values : (n_nodes, nc)
        Zero where nothing is prescribed; in the shape of the unknowns.
    derivative : (n_nodes, nc, dim) or None
        By the coordinates of the location of the unknown; None when no value depends on position.
    location : (n_dofs, n_nodes) sparse or None
        Weights of the mesh nodes in the locations; None where unknowns sit at the nodes themselves.
    kink : str
        What to say when the derivative is asked for where a function has none.
    """

    values: FloatArray
    derivative: FloatArray | None
    location: csr_array | None = None
    kink: str = ""

    @property
    def homogeneous(self) -> bool:
        """Whether every prescribed value is zero."""
        return not self.values.any()

    @property
    def moves(self) -> bool:
        """Whether some value depends on position."""
        return self.derivative is not None

    def pullback(self, weights: FloatArray) -> FloatArray:
        """``weights^T dg/dX`` for weights in the shape of the values, shape ``(n_nodes, dim)``."""
        if self.derivative is None:
            raise ValueError("the prescribed values do not depend on position")
        self._require_derivative()
        at_locations = np.einsum("ai,aij->aj", weights, self.derivative)
        return np.asarray(at_locations if self.location is None else self.location.T @ at_locations)

    def pushforward(self, velocity: FloatArray) -> FloatArray:
        """``(dg/dX) velocity``, in the shape of the values."""
        if self.derivative is None:
            return np.zeros_like(self.values)
        self._require_derivative()
        at_locations = velocity if self.location is None else self.location @ velocity
        return np.asarray(np.einsum("aij,aj->ai", self.derivative, at_locations))

    def _require_derivative(self) -> None:
        if self.kink:
            raise SupportError(self.kink)


@dataclass(frozen=True, eq=False)
class Constrained:
    """Unknowns that a support holds.

    Attributes
    ----------
    support : Fixed
    rows : (n,) int64
        Rows of the locations: nodes, or unknowns of an element.
    unknowns : (n, n_components) int64
        Flat numbers.
    order : (n,) int64 or None
        Places of the rows among the nodes as the group was given; None where the group was given in their order.
    """

    support: Fixed
    rows: npt.NDArray[np.int64]
    unknowns: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Supports:
    """Supports resolved on a space.

    Attributes
    ----------
    space : Discretisation
    names : tuple of str
        Names of the components at a node.
    supports : tuple of Fixed
    constrained : tuple of Constrained
        What they hold; those that override come last.
    fixed : (n_nodes, nc) bool
        In the shape of the unknowns.
    location : sparse or None
        See ``Prescribed``.
    """

    space: Discretisation
    names: tuple[str, ...]
    supports: tuple[Fixed, ...]
    constrained: tuple[Constrained, ...]
    fixed: npt.NDArray[np.bool_]
    location: csr_array | None

    @classmethod
    def of(cls, space: Discretisation, physics: Physics, supports: Sequence[Fixed]) -> Supports:
        """Resolve groups and components; SupportError when the body can still move."""
        constraints = cls.resolved(space, physics, supports)
        constraints.require_held(physics)
        return constraints

    @classmethod
    def resolved(cls, space: Discretisation, physics: Physics, supports: Sequence[Fixed]) -> Supports:
        """Resolve groups and components; the body may be left free to move."""
        names = physics.components(space.mesh.dim)
        numbering = _numbering(space)
        constrained = [each for support in supports for each in constrained_by(space, names, support, numbering)]
        fixed = np.zeros(space.shape, dtype=bool)
        for each in constrained:
            fixed.reshape(-1)[each.unknowns] = True
        location = None if numbering is None else numbering.location
        constrained.sort(key=lambda each: each.support.overrides)
        return cls(space, names, tuple(supports), tuple(constrained), fixed, location)

    def described(self, support: Fixed) -> str:
        """A support with the names of its components."""
        names: Any = support.components
        if self.space.nodal:
            names = [self.names[i] for i in support.component_indices(self.names, self.space.part_names[0])]
        text = "all" if names is None else names if isinstance(names, str) else ", ".join(map(str, names))
        value = support.value
        given = "" if isinstance(value, (int, float)) and value == 0 else f" = {one_line(value, 30)}"
        return f"{support.group!r} {text}{given}"

    def prescribed(self, points: FloatArray) -> Prescribed:
        """Prescribed values and their derivatives at the given node coordinates, complex where these are.

        Raises
        ------
        SupportError
            Where two supports prescribe different values for the same unknown.
        """
        if self._same_everywhere is None or np.iscomplexobj(points):
            return self._prescribed(points)
        return self._same_everywhere

    @cached_property
    def _same_everywhere(self) -> Prescribed | None:
        """Where all values are numbers, which neither position nor anybody changes."""
        if all(isinstance(each.support.value, (int, float)) for each in self.constrained):
            return self._prescribed(self.space.mesh.points)
        return None

    def _prescribed(self, points: FloatArray) -> Prescribed:
        locations = points if self.location is None else self.location @ points
        values = np.zeros(self.fixed.size, dtype=points.dtype)
        derivative = np.zeros((self.fixed.size, self.space.mesh.dim), dtype=points.dtype)
        source = np.full(self.fixed.size, -1, dtype=np.int64)
        overrides = np.array([each.support.overrides for each in self.constrained], dtype=bool)
        moving, kink = False, ""
        for number, each in enumerate(self.constrained):
            at = each.unknowns
            new, slope, without = _values(each, locations[each.rows], at.shape[1])
            kink = kink or without
            before = source[at] >= 0
            before[before] = overrides[source[at][before]] == each.support.overrides
            scale = np.maximum(np.abs(values[at]), np.abs(new))
            clash = before & (np.abs(values[at] - new) > 1e-12 * scale)
            if slope is not None or moving:
                step = np.zeros_like(derivative[at]) if slope is None else slope
                size = np.maximum(np.abs(derivative[at]), np.abs(step)).max(axis=2)
                clash |= before & (np.abs(derivative[at] - step).max(axis=2) > 1e-9 * size)
                derivative[at] = step
                moving = True
            if clash.any():
                row, column = np.argwhere(clash)[0]
                other = self.constrained[int(source[at][row, column])].support
                raise SupportError(
                    f"supports on {other.group!r} and {each.support.group!r} contradict each other at "
                    f"{unknown_name(self.space, self.names, int(at[row, column]))}: "
                    f"{values[at][row, column]:g} and {new[row, column]:g} (or their dependence on position); "
                    "Fixed(..., overrides=True) lets one of them prevail"
                )
            values[at] = new
            source[at] = number
        shape = self.fixed.shape
        slopes = frozen(derivative.reshape(*shape, -1)) if moving else None
        return Prescribed(frozen(values.reshape(shape)), slopes, self.location, kink)

    def require_held(self, physics: Physics) -> None:
        """SupportError when some connected part of the mesh keeps a motion without energy.

        Of unknowns that are not values at the mesh nodes only the solver finds out.
        """
        if self.location is not None:
            return
        mesh = self.space.mesh
        count, part = _connected_parts(mesh)
        constrained = np.asarray(self.fixed.any(axis=1))
        for inside in np.split(np.argsort(part, kind="stable"), np.cumsum(np.bincount(part))[:-1]):
            nodes = inside[constrained[inside]]
            where = (
                ""
                if count == 1
                else f" of the part with node {int(mesh.node_ids[inside[0]])} ({len(inside)} nodes, one of "
                f"{count} parts that are not connected)"
            )
            sample = nodes if len(nodes) else inside[:1]
            modes = physics.null_modes(mesh.points[sample])
            if not modes.names:
                continue
            if len(nodes) == 0:
                raise SupportError(f"nothing{where or ' of the mesh'} is supported: free are {', '.join(modes.names)}")
            rows = modes.fields.transpose(1, 2, 0)[self.fixed[nodes]]
            # the triangular factor has the same null space and is at most as large as the modes are many
            _, sizes, directions = np.linalg.svd(np.linalg.qr(rows, mode="r"), full_matrices=True)
            sizes = np.append(sizes, np.zeros(len(modes.names) - len(sizes)))
            free = directions[sizes <= 1e-9 * max(sizes.max(initial=0.0), 1e-300)]
            if len(free):
                named = [n for n, weight in zip(modes.names, np.abs(free).max(axis=0), strict=True) if weight > 0.1]
                raise SupportError(
                    f"the supports leave {len(free)} rigid motion(s){where} free: {', '.join(named)} (rotations about "
                    "the centre of the supported nodes). Add a Fixed(...) that stops them"
                )


def _numbering(space: Discretisation) -> Numbering | None:
    """Of an element space the unknowns one by one; None where unknowns sit at the mesh nodes."""
    return space.numbering() if isinstance(space, ElementSpace) and not space.nodal else None


def constrained_by(
    space: Discretisation, names: tuple[str, ...], support: Fixed, numbering: Numbering | None = None
) -> list[Constrained]:
    """The unknowns that a support holds; SupportError or UnknownGroupError where there are none of that name."""
    if isinstance(space, ElementSpace) and not space.nodal:
        return _constrained_of_element(space, numbering or space.numbering(), support)
    nodes = space.mesh.nodes_of(support.group)
    components = support.component_indices(names, space.part_names[0])
    order = space.mesh.node_order.get(support.group)
    return [Constrained(support, nodes, nodes[:, None] * space.n_components + components, order)]


def _connected_parts(mesh: Mesh) -> tuple[int, npt.NDArray[np.int32]]:
    rows, columns = [], []
    for block in mesh.blocks:
        first = np.repeat(block.nodes[:, 0], block.nodes.shape[1] - 1)
        rows.append(first)
        columns.append(block.nodes[:, 1:].ravel())
    row, column = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(mesh.n_nodes, mesh.n_nodes))
    count, part = connected_components(graph.tocsr(), directed=False)
    return int(count), part


def _values(constrained: Constrained, x: FloatArray, n: int) -> tuple[FloatArray, FloatArray | None, str]:
    """Values, derivatives by position (None: constant), and what to say where there is no derivative."""
    support = constrained.support
    what = f"value of Fixed({support.group!r})"
    if callable(support.value):
        found = evaluate(support.value, x, n, what, SupportError)
        return found.values, found.derivatives, found.kink
    array = real_array(support.value, what, SupportError, "a number, an array or a function of x")
    if not np.isfinite(array).all():
        raise SupportError(f"{what} must be finite")
    one_a_node = array.shape == (len(x), n) or (n == 1 and array.shape == (len(x),))
    if one_a_node and constrained.order is not None:
        array = array[constrained.order]
    if array.ndim == 0 or array.shape == (n,) or array.shape == (len(x), n):
        return np.broadcast_to(array, (len(x), n)), None, ""
    if n == 1 and array.shape == (len(x),):
        return array[:, None], None, ""
    raise SupportError(f"{what} must be a number or have shape {(n,)} or {(len(x), n)}, not {array.shape}")


def _constrained_of_element(space: ElementSpace, numbering: Numbering, support: Fixed) -> list[Constrained]:
    """Unknowns of an element that a support holds, part by part."""
    group = space.unknowns_on(support.group, numbering)
    zero = not callable(support.value) and not np.any(support.value)
    chosen = support.parts(space.parts)
    result = []
    for number, components in chosen:
        part = space.parts[number]
        first = group[(numbering.part[group] == number) & (numbering.component[group] == 0)]
        if len(first) == 0 and support.components is None:
            continue
        if len(first) == 0:
            raise SupportError(
                f"Fixed({support.group!r}, {part.name!r}): the part has no unknowns there: those of "
                f"{type(part.element).__name__} lie elsewhere in the cells"
            )
        if not zero and len(chosen) > 1:
            raise SupportError(f"Fixed({support.group!r}): a value other than zero needs the name of one part")
        if not zero and not numbering.is_value[first].all():
            raise SupportError(
                f"Fixed({support.group!r}, {part.name!r}): the unknowns of {type(part.element).__name__} are no values "
                "at points there, only zero can be prescribed; write other values as a linear form on the boundary"
            )
        if not callable(support.value) and np.ndim(support.value) > 1:
            raise SupportError(
                f"Fixed({support.group!r}, {part.name!r}): give one value, one a component or a function of x; the "
                "unknowns of an element have no order that an array of locations could follow"
            )
        result.append(Constrained(support, first, first[:, None] + components))
    if not result:
        raise SupportError(f"Fixed({support.group!r}): the element has no unknowns there, but elsewhere in the cells")
    return result


def unknown_name(space: Discretisation, names: tuple[str, ...], equation: int) -> str:
    """Say which location and component an equation number stands for."""
    if isinstance(space, ElementSpace) and not space.nodal:
        return space.name_of(equation)
    mesh = space.mesh
    node, component = divmod(equation, len(names))
    text = ", ".join(f"{c:.6g}" for c in mesh.points[node])
    return f"node {int(mesh.node_ids[node])} at ({text}), component {names[component]}"
