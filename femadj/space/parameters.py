"""Named parameters of forms, loads and functionals: constants, and coefficient fields given by nodes or by cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import mapping_of, real_array, whole_number
from femadj.base.arrays import FloatArray
from femadj.base.complex_step import STEP
from femadj.base.display import measured, shown
from femadj.base.pickling import Picklable
from femadj.errors import FormError, ParameterError, UnknownParameterError
from femadj.mesh import Mesh

ParameterKind = Literal["constant", "nodal", "cell"]


@dataclass(frozen=True, eq=False)
class NodalField:
    """A coefficient field given at the mesh nodes, interpolated as the geometry is; it travels with its nodes.

    Parameters
    ----------
    values : (n_nodes,) or (n_nodes, components), optional
        Left out: every ``solve`` must supply it (or a ``Chain`` does).
    components : int
        Number of components of a field without values.
    """

    values: npt.ArrayLike | None = None
    components: int = 1


@dataclass(frozen=True, eq=False)
class CellField:
    """A coefficient field that is constant in every cell and travels with it.

    Parameters
    ----------
    values : (n_cells,) or (n_cells, components), optional
        By global cell number, through the blocks in order. Left out: every ``solve`` must supply it.
    components : int
        Number of components of a field without values.
    """

    values: npt.ArrayLike | None = None
    components: int = 1


@dataclass(frozen=True, eq=False)
class GroupValues:
    """A constant with one value, which may be a tensor, for each of several groups.

    Parameters
    ----------
    values : (n_groups, ...)
    """

    values: npt.ArrayLike


ParameterLike = float | npt.ArrayLike | NodalField | CellField | GroupValues


@dataclass(frozen=True, eq=False)
class Parameter(Picklable):
    """One declared parameter on a mesh.

    Attributes
    ----------
    kind : "constant", "nodal" or "cell"
    shape : tuple of int
        Of the values.
    values : array or None
        ``None`` as long as nobody has supplied any.
    """

    kind: ParameterKind
    shape: tuple[int, ...]
    values: FloatArray | None

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of the value at a point."""
        return self.shape if self.kind == "constant" else self.shape[1:]

    def __str__(self) -> str:
        if self.values is None:
            return f"{self.kind} {self.shape}, without values"
        return f"{self.values:.6g}" if self.shape == () else f"{self.kind} {self.shape}, {measured(self.values)}"


@dataclass(frozen=True, eq=False)
class Parameters(Picklable):
    """The parameters of a problem by name, with their current values."""

    entries: Mapping[str, Parameter]

    @classmethod
    def of(cls, mesh: Mesh, declared: Mapping[str, ParameterLike], where: str) -> Parameters:
        """Resolve declarations on a mesh.

        Raises
        ------
        ParameterError
            For names that are no identifiers, shapes that do not fit the mesh, and numbers that are not finite.
        """
        entries = {}
        for name, value in mapping_of(declared, f"{where}: parameters", ParameterError).items():
            if not name.isidentifier():
                raise ParameterError(f"{where}: a parameter must have the name of a Python variable, not {name!r}")
            if name in RESERVED:
                raise ParameterError(f"{where}: {name!r} cannot name a parameter: forms find {RESERVED[name]} there")
            if hasattr(dict, name):
                raise ParameterError(f"{where}: {name!r} cannot name a parameter: w.{name} is a method of dictionaries")
            what = f"{where}: parameter {name!r}"
            if isinstance(value, (NodalField, CellField)):
                kind: ParameterKind = "nodal" if isinstance(value, NodalField) else "cell"
                n = mesh.n_nodes if kind == "nodal" else mesh.n_cells
                whole_number(value.components, 1, f"{what}: components", ParameterError)
                shape = (n,) if value.components == 1 else (n, value.components)
                if value.values is None:
                    entries[name] = Parameter(kind, shape, None)
                    continue
                array = _numbers(value.values, what)
                if array.ndim not in (1, 2) or array.shape[0] != n:
                    one = "node" if kind == "nodal" else "cell"
                    raise ParameterError(
                        f"{what} must have one value (or one row of components) for each of the {n} {one}s, not shape "
                        f"{array.shape}"
                    )
                if array.shape == (n, 1):
                    array = array[:, 0]
                entries[name] = Parameter(kind, array.shape, array)
            else:
                array = _numbers(value.values if isinstance(value, GroupValues) else value, what)
                if array.ndim > 2 and not isinstance(value, GroupValues):
                    raise ParameterError(f"{what} must be a number, a vector or a matrix, not of shape {array.shape}")
                entries[name] = Parameter("constant", array.shape, array)
        return cls(MappingProxyType(entries))

    def merged(self, other: Parameters) -> Parameters:
        """Both; a name declared twice must mean the same."""
        entries = dict(self.entries)
        for name, entry in other.entries.items():
            if name in entries:
                known = entries[name]
                same = known.kind == entry.kind and known.shape == entry.shape
                if same and known.values is not None and entry.values is not None:
                    same = bool(np.array_equal(known.values, entry.values))
                if not same:
                    raise ParameterError(
                        f"parameter {name!r} is declared twice with different kinds, shapes or values; give one of "
                        "them another name"
                    )
                if known.values is not None:
                    continue
            entries[name] = entry
        return Parameters(MappingProxyType(entries))

    def given(self, values: Mapping[str, npt.ArrayLike] | None) -> dict[str, FloatArray]:
        """Values that are given for some parameters, checked and copied.

        Raises
        ------
        ParameterError
            For unknown names and shapes that are not those of the declaration.
        """
        result = {}
        for name, value in mapping_of(values, "parameters", ParameterError).items():
            if name not in self.entries:
                raise UnknownParameterError(name, self.entries)
            entry = self.entries[name]
            array = _numbers(value, f"parameter {name!r}")
            if array.shape == (*entry.shape, 1):
                array = array[..., 0]
            if array.shape != entry.shape:
                raise ParameterError(f"parameter {name!r} ({entry.kind}) has shape {entry.shape}, not {array.shape}")
            result[name] = array
        return result

    def updated(self, values: Mapping[str, npt.ArrayLike] | None) -> Parameters:
        """New values for some parameters; ParameterError as in ``given``."""
        entries = dict(self.entries)
        for name, array in self.given(values).items():
            entry = entries[name]
            entries[name] = Parameter(entry.kind, entry.shape, array)
        return Parameters(MappingProxyType(entries))

    def in_motion(self, rates: Mapping[str, FloatArray]) -> Parameters:
        """The same with a complex step along rates of some parameters; all that have values are then complex."""
        entries = {}
        for name, entry in self.entries.items():
            moved: Any = None if entry.values is None else entry.values + 1j * STEP * rates.get(name, 0.0)
            entries[name] = Parameter(entry.kind, entry.shape, moved)
        return Parameters(MappingProxyType(entries))

    @property
    def known(self) -> dict[str, FloatArray]:
        """Values of all parameters that have some."""
        return {name: entry.values for name, entry in self.entries.items() if entry.values is not None}

    def value(self, name: str) -> FloatArray:
        """Values of a parameter; ParameterError where there are none."""
        if name not in self.entries:
            raise UnknownParameterError(name, self.entries)
        found = self.entries[name].values
        if found is None:
            raise ParameterError(
                f"parameter {name!r} has no values yet: declare it with values, pass them to "
                f"solve(parameters={{{name!r}: ...}}), or feed it from another problem by a Chain"
            )
        return found

    @contextmanager
    def explained(self, mesh: Mesh) -> Iterator[None]:
        """A context whose FormErrors say which constants look like fields of the mesh."""
        try:
            yield
        except FormError as error:
            for n, one, kind in ((mesh.n_nodes, "node", "NodalField"), (mesh.n_cells, "cell", "CellField")):
                for name, entry in self.entries.items():
                    if entry.kind == "constant" and entry.shape[:1] == (n,):
                        advice = f"{name!r} has one number for each {one}: a field is declared as {kind}({name})"
                        raise FormError(f"{error}; {advice}") from error
            raise

    def zeros(self) -> dict[str, FloatArray]:
        """An array of zeros in the shape of every parameter."""
        return {name: np.zeros(entry.shape) for name, entry in self.entries.items()}

    def __repr__(self) -> str:
        return shown(f"Parameters({len(self)})", **{name: str(entry) for name, entry in self.entries.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return name in self.entries


RESERVED: Mapping[str, str] = MappingProxyType(
    {"x": "the coordinates", "n": "the outward normal", "h": "the mesh size", "idx": "the side of an interior facet"}
)
"""Names of ``w`` that are not parameters."""


def _numbers(value: Any, what: str) -> FloatArray:
    if value is None:
        raise ParameterError(f"{what} has no value; declare NodalField() or CellField() for one that is supplied later")
    array = real_array(value, what, ParameterError, "numbers")
    if not np.isfinite(array).all():
        raise ParameterError(f"{what} must be finite")
    array.setflags(write=False)
    return array
