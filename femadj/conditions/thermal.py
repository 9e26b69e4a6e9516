"""Thermal strain: the load that a temperature field puts on an elastic body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arguments import described
from femadj.base.arrays import FloatArray
from femadj.errors import LoadError, MaterialError
from femadj.forms.integrand import Integrand
from femadj.forms.probed import form_term
from femadj.forms.term import Term
from femadj.physics import Elasticity, Physics
from femadj.physics.base import finite, for_each
from femadj.physics.material import Regional, item_shape, value_of_cell
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import CellField, GroupValues, NodalField, ParameterLike, Parameters


@dataclass(frozen=True, eq=False)
class ThermalStrain:
    """Isotropic expansion ``alpha (T - T0)`` of an elastic body: the load ``int (C : alpha (T - T0) I) : eps(v)``.

    Parameters
    ----------
    expansion : number, or mapping of cell group to number
        Coefficient of thermal expansion alpha [1/temperature].
    temperature : NodalField, CellField, number or (n_nodes,) array, optional
        T, the parameter ``name`` of the problem. Left out: a nodal field that every ``solve`` must supply, or that the
        stage called ``name`` of a ``Chain`` feeds.
    reference : float
        T0, at which the body is free of stress.
    name : str
        Name of the parameter.
    """

    expansion: Regional
    temperature: ParameterLike | None = None
    reference: float = 0.0
    name: str = "temperature"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise LoadError(f"ThermalStrain: name must be that of a parameter, not {described(self.name)}")

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """The temperature."""
        temperature = self.temperature
        if temperature is None:
            temperature = NodalField()
        elif not isinstance(temperature, (NodalField, CellField, GroupValues)):
            constant = np.isscalar(temperature) or getattr(temperature, "ndim", 1) == 0
            temperature = temperature if constant else NodalField(temperature)
        return {self.name: temperature}

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Bind to an elastic body."""
        if not isinstance(physics, Elasticity):
            raise LoadError(f"ThermalStrain loads an elastic body (Elasticity), not {type(physics).__name__}")
        mesh = space.mesh
        constants = {name: value for name, value in physics.constants.items() if name != "density"}
        if isinstance(self.expansion, CellField):
            raise LoadError("ThermalStrain: expansion must be a number or given by cell group, not by cell")
        try:
            for_each(self.expansion, finite, "expansion")
            reference = finite(self.reference, "reference")
            chosen = {name: value_of_cell(mesh, value, name) for name, value in constants.items()}
            expansions = np.array([float(alpha) for alpha in _values(self.expansion)])
            alpha_of_cell = expansions[value_of_cell(mesh, self.expansion, "expansion")]
            physics.held_stress(*_ones(physics, constants), dim=mesh.dim)
        except MaterialError as cause:
            raise LoadError(f"ThermalStrain: {cause}") from cause
        declared = {**physics.parameters_on(mesh), **self.parameters}
        parameters = Parameters.of(mesh, declared, "ThermalStrain")
        if parameters.entries[self.name].item_shape != ():
            raise LoadError("ThermalStrain: the temperature must be a scalar")
        by_group = {name: index for name, index in chosen.items() if isinstance(constants[name], Mapping)}
        terms: list[Term] = []
        for fields in space.maps("cells", gradients=True):  # the rule that keeps free expansion free of stress
            cells = fields.domains[0].global_cells
            table = np.array([alpha_of_cell[cells], *(index[cells] for index in by_group.values())])
            for alpha, *numbers in np.unique(table, axis=1).T:
                here = (table == np.array([alpha, *numbers])[:, None]).all(axis=0)
                part = fields if here.all() else fields.selected(here)
                groups = dict(zip(by_group, map(int, numbers), strict=True))
                law = _Expansion(physics, mesh.dim, tuple(constants), groups, self.name, reference, float(alpha))
                terms.append(form_term(Integrand(law, "ThermalStrain"), part, mesh.points, parameters, 1))
        return terms


def _values(value: Regional) -> list[Any]:
    """The values of a constant given by groups, or the one value."""
    return list(value.values()) if isinstance(value, Mapping) else [value]


def _ones(physics: Elasticity, constants: Mapping[str, Regional]) -> list[FloatArray]:
    """Constants of some shape, to see whether it serves."""
    shapes = [item_shape(value) for value in constants.values()]
    return [np.eye(shape[0])[None] if shape else np.full(1, 0.25) for shape in shapes]


@dataclass(frozen=True)
class _Expansion:
    """``(T - T0) alpha (C : I) : grad v``, times the thickness of a plane body; constants are read by name.

    Attributes
    ----------
    physics : Elasticity
    dim : int
    names : tuple of str
        Constants of the material.
    groups : mapping of name to int
        Which value the cells have of a constant that is given by groups.
    temperature : str
    reference, alpha : float
    """

    physics: Elasticity
    dim: int
    names: tuple[str, ...]
    groups: Mapping[str, int]
    temperature: str
    reference: float
    alpha: float

    def __call__(self, v: Any, w: Any) -> Any:
        values = [w[name][self.groups[name]] if name in self.groups else w[name] for name in self.names]
        factor = self.alpha * (w[self.temperature] - self.reference)
        if self.dim == 2:
            factor = factor * w.thickness
        if len(values) == 2:
            E, nu = values
            held = 1 - nu if self.dim == 2 and self.physics.plane == "stress" else 1 - 2 * nu
            return factor * E / held * sum(v.grad[i, i] for i in range(self.dim))
        matrix = np.reshape(values[0], (1, *np.shape(values[0])[:2]))
        stress = self.physics.held_stress(matrix, dim=self.dim)[0]
        return factor * sum(stress[i, j] * v.grad[i, j] for i in range(self.dim) for j in range(self.dim))
