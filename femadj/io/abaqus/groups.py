"""Sets and surfaces of an input file as groups: names resolved within their scopes, each once."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from femadj.base.arrays import listing
from femadj.errors import MeshFileError
from femadj.io.abaqus.deck import Deck, Members, Scope, Surface, checked_id
from femadj.io.abaqus.elements import FACES
from femadj.io.cells import dimension
from femadj.io.raw import Budget, IdTable, IntArray, RawBlock, RawGroup
from femadj.mesh.reference import CELL_TYPES, INTEGRATED_CELLS
from femadj.mesh.topology import CellBlock, facet_keys

Key = tuple[int, str, str]
"""Number of the scope, kind and name of a set."""


class Sets:
    """The sets of a deck, resolved to rows of nodes or elements when they are asked for."""

    def __init__(self, deck: Deck, nodes: IdTable, blocks: list[RawBlock], elements: IdTable) -> None:
        self.deck = deck
        self.scopes = deck.scopes()
        self.tables = {"node": nodes, "cell": elements}
        self.blocks = blocks
        self.starts = np.cumsum([0, *(len(b.nodes) for b in blocks)])
        self._known: dict[Key, IntArray] = {}
        self.budget = Budget(len(nodes) + len(elements))

    def split(self, rows: IntArray) -> dict[int, IntArray]:
        """Rows of elements by block."""
        block = np.searchsorted(self.starts, rows, side="right") - 1
        return {int(i): rows[block == i] - self.starts[i] for i in np.unique(block)}

    def find(self, scope: int, kind: str, name: str) -> Key | int | None:
        """What a name or id in a scope means: a set, an id, or nothing."""
        upper = name.upper()
        if (kind, upper) in self.scopes[scope].sets:
            return scope, kind, upper
        instance = self.deck.instance.upper()
        if scope == 0 and len(self.scopes) > 1 and instance and upper.startswith(instance + "."):
            scope, upper = 1, upper[len(instance) + 1 :]
            if (kind, upper) in self.scopes[scope].sets:
                return scope, kind, upper
        if upper.isdecimal() and upper.isascii() and (scope == 1 or len(self.scopes) == 1):
            return checked_id(upper, str(self.deck.path))
        return None

    def members(self, key: Key) -> Members:
        """The set as collected."""
        return self.scopes[key[0]].sets[key[1:]]

    def rows(self, key: Key) -> IntArray:
        """Rows of all members of a set, ascending.

        Raises
        ------
        MeshFileError
            For sets that contain themselves, and names that no set has.
        """
        stack: list[tuple[Key, bool]] = [(key, False)]
        opened: set[Key] = set()
        while stack:
            at, done = stack.pop()
            if at in self._known:
                continue
            if done:
                self._known[at] = self._own(at)
                opened.discard(at)
                continue
            if at in opened:
                here = self.members(at)
                raise MeshFileError(f"{here.where}: the {here.kind} set {here.name!r} contains itself")
            opened.add(at)
            stack.append((at, True))
            inner = [k for k in self._references(at) if k not in self._known]
            for other in inner:
                if other in opened:
                    here = self.members(other)
                    raise MeshFileError(f"{here.where}: the {here.kind} set {here.name!r} contains itself")
            stack += [(k, False) for k in dict.fromkeys(inner)]
        return self._known[key]

    def _references(self, key: Key) -> list[Key]:
        here = self.members(key)
        found = []
        for kind, names in ((here.kind, here.names), ("cell", here.elsets)):
            for name, where in names:
                target = self.find(key[0], kind, name)
                if target is None:
                    raise MeshFileError(
                        f"{where}: the set {here.name!r} refers to the {kind} set {name!r}, which does not exist"
                    )
                if not isinstance(target, int):
                    found.append(target)
        return found

    def _own(self, key: Key) -> IntArray:
        """Rows of a set whose references are known."""
        here = self.members(key)
        table = self.tables[here.kind]
        targets = [self.find(key[0], here.kind, name) for name, _ in here.names]
        ids = np.concatenate([np.empty(0, np.int64), *here.ids, [t for t in targets if isinstance(t, int)]])
        ids = ids.astype(np.int64)
        rows = table.find(ids)
        missing = np.unique(ids[rows < 0])
        parts = [rows[rows >= 0]]
        lost = len(missing)
        for range_ in dict.fromkeys(here.ranges):
            inside, gone = table.between(*range_)
            self._spend(len(inside), here)
            parts.append(inside)
            lost += gone
            if gone and len(missing) < 8:
                missing = np.append(missing, range_[1] if len(inside) else range_[0])
        for target in targets:
            if target is not None and not isinstance(target, int):
                self._spend(len(self._known[target]), here)
                parts.append(self._known[target])
        for name, _ in here.elsets:
            target = self.find(key[0], "cell", name)
            if target is not None and not isinstance(target, int):
                for i, cells in self.split(self._known[target]).items():
                    self._spend(self.blocks[i].nodes.shape[1] * len(cells), here)
                    parts.append(self.blocks[i].nodes[cells].ravel())
        if lost:
            what = "nodes" if here.kind == "node" else "elements"
            also = " or are no cells" if here.kind == "cell" else ""
            some = listing(missing) + (f" among {lost}" if lost > len(missing) else "")
            self.deck.warnings.append(
                f"{here.where}: the set {here.name!r} holds {what} ({some}) that do not exist{also}"
            )
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def _spend(self, count: int, here: Members) -> None:
        self.budget.spend(count, f"{here.where}, the set {here.name!r}")

    def groups(self) -> list[RawGroup]:
        """Groups of all sets that are not internal."""
        result = []
        hidden = []
        for number, scope in enumerate(self.scopes):
            for (kind, upper), found in scope.sets.items():
                if found.internal:
                    hidden.append(found.name)
                    continue
                rows = self.rows((number, kind, upper))
                name = self.group_name(number, found.name, (kind, upper) in self.scopes[0].sets)
                if kind == "node":
                    result.append(RawGroup(name, "*NSET", nodes=rows))
                else:
                    result.append(RawGroup(name, "*ELSET", cells=self.split(rows)))
        if hidden:
            shown = ", ".join(hidden[:20]) + (", ..." if len(hidden) > 20 else "")
            self.deck.dropped.append(f"{len(hidden)} internal sets, which serve surfaces and constraints: {shown}")
        return result

    def group_name(self, scope: int, name: str, taken: bool) -> str:
        """Name of a group: with that of the instance where the assembly has a set of the same name."""
        return f"{self.deck.instance or self.scopes[1].name}.{name}" if scope == 1 and taken else name


class Surfaces:
    """The surfaces of a deck."""

    def __init__(self, sets: Sets, n_points: int) -> None:
        self.sets = sets
        self.deck = sets.deck
        self._n_points = n_points
        self._free: tuple[list[int], IntArray, IntArray] | None = None

    def groups(self) -> list[RawGroup]:
        """Groups of all surfaces; an incomplete one would carry an incomplete load and is left out."""
        result = []
        for number, scope in enumerate(self.sets.scopes):
            for key, surface in scope.surfaces.items():
                problem = surface.problem
                group: RawGroup | None = None
                if not problem:
                    name = self.sets.group_name(number, surface.name, key in self.sets.scopes[0].surfaces)
                    group, problem = self._group(number, surface, name)
                if group is None:
                    self.deck.dropped.append(f"{surface.where}: the surface {surface.name!r}: {problem}")
                else:
                    result.append(group)
        return result

    def _group(self, scope: int, surface: Surface, name: str) -> tuple[RawGroup | None, str]:
        kind = "node" if surface.kind == "NODE" else "cell"
        by_label: dict[str, list[IntArray]] = {}
        for token, label, where in surface.items:
            target = self.sets.find(scope, kind, token)
            if target is None:
                return None, f"{where}: the {kind} set {token!r} does not exist"
            if isinstance(target, int):
                rows = self.sets.tables[kind].find(np.array([target]))
                if rows[0] < 0:
                    return None, f"{where}: the {'node' if kind == 'node' else 'element'} {target} does not exist"
            else:
                rows = self.sets.rows(target)
            self.sets.budget.spend(len(rows), f"{where}, the surface {surface.name!r}")
            by_label.setdefault(label, []).append(rows)
        origin = f"*SURFACE, TYPE={surface.kind}"
        if kind == "node":
            rows = np.concatenate([np.empty(0, np.int64), *(r for parts in by_label.values() for r in parts)])
            return RawGroup(name, origin, nodes=np.unique(rows).astype(np.int64)), ""
        facets: list[IntArray] = []
        for label, parts in by_label.items():
            cells = self.sets.split(np.unique(np.concatenate(parts)).astype(np.int64))
            if not label:
                facets += self._free_facets(cells)
                continue
            for i, members in cells.items():
                chosen = labelled(self.sets.blocks[i], members, label)
                if chosen is None:
                    return None, f"{label!r} is no face of {self.sets.blocks[i].type} cells"
                facets.append(chosen)
        return RawGroup(name, origin, facets=tuple(f for f in facets if len(f))), ""

    def _free_facets(self, cells: Mapping[int, IntArray]) -> list[IntArray]:
        """Facets of the given cells that no other cell shares (a surface given by sets alone)."""
        blocks = self.sets.blocks
        if self._free is None:
            dim = max((dimension(b.type) for b in blocks), default=0)
            usable = [i for i, b in enumerate(blocks) if b.type in INTEGRATED_CELLS and dimension(b.type) == dim]
            if not usable:
                return []
            keys, cell, _ = facet_keys([CellBlock(blocks[i].type, blocks[i].nodes.astype(np.int32)) for i in usable])
            order = np.lexsort(keys.T[::-1])
            same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
            single = np.ones(len(keys), dtype=bool)
            single[order[1:][same]] = False
            single[order[:-1][same]] = False
            self._free = usable, keys[single], cell[single]
        usable, keys, cell = self._free
        starts = np.cumsum([0, *(len(blocks[i].nodes) for i in usable)])
        chosen: npt.NDArray[np.bool_] = np.zeros(int(starts[-1]), dtype=bool)
        for start, i in zip(starts.tolist(), usable, strict=False):
            if i in cells:
                chosen[start + cells[i]] = True
        found = keys[chosen[cell]]
        count = (found >= 0).sum(axis=1)
        return [found[count == k][:, 4 - k :] for k in (2, 3, 4) if (count == k).any()]


def labelled(block: RawBlock, rows: IntArray, label: str) -> IntArray | None:
    """Corner nodes of the faces with a label (S1, S2, ...; SPOS and SNEG of shells); None where there are none."""
    shape = CELL_TYPES[block.type].shape if block.type in CELL_TYPES else block.type
    if label in ("SPOS", "SNEG") and shape in ("triangle", "quad"):
        return block.nodes[rows][:, : 3 if shape == "triangle" else 4]
    match = re.fullmatch(r"[SE](\d)", label)
    faces = FACES.get(shape, ())
    if match is None or not 1 <= int(match[1]) <= len(faces):
        return None
    return block.nodes[rows][:, list(faces[int(match[1]) - 1])]


def reference_points(deck: Deck, scope: Scope) -> None:
    """Report the nodes of an assembly that holds a part; refuse cells beside it.

    Raises
    ------
    MeshFileError
        For plane or solid elements of the assembly itself.
    """
    for found in scope.elements:
        if dimension(found.cell) > 1 and found.ids:
            raise MeshFileError(
                f"{found.where}: elements of type {found.type} of the assembly beside those of the part are not "
                "supported: write a flat input file (without parts and assemblies)"
            )
        deck.dropped.append(f"{found.where}: elements of type {found.type} of the assembly: they are no cells")
    count = sum(len(i) for i in scope.node_ids)
    if count:
        ids = np.concatenate(scope.node_ids)
        deck.dropped.append(f"{count} nodes of the assembly itself (reference points {listing(ids)})")
