"""Thermal strain: the load that a temperature field puts on an elastic body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.errors import LoadError, MaterialError
from femadj.forms.integrand import Integrand
from femadj.forms.probed import form_term
from femadj.forms.term import Term
from femadj.physics import Elasticity, Physics
from femadj.physics.base import Regional, finite
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

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """The temperature."""
        if self.temperature is None:
            return {self.name: NodalField()}
        if isinstance(self.temperature, (NodalField, CellField, GroupValues)) or np.ndim(self.temperature) == 0:
            return {self.name: self.temperature}
        return {self.name: NodalField(self.temperature)}

    def bind(self, space: Discretisation, physics: Physics) -> Sequence[Term]:
        """Bind to an elastic body."""
        if not isinstance(physics, Elasticity):
            raise LoadError(f"ThermalStrain loads an elastic body (Elasticity), not {type(physics).__name__}")
        try:
            stress, region = physics.thermal_stress(space.mesh, self.expansion)
            reference = finite(self.reference, "reference")
        except MaterialError as cause:
            raise LoadError(f"ThermalStrain: {cause}") from cause
        mesh = space.mesh
        parameters = Parameters.of(mesh, self.parameters, "ThermalStrain")
        if parameters.entries[self.name].item_shape != ():
            raise LoadError("ThermalStrain: the temperature must be a scalar")
        thickness = physics.thickness_in(mesh.dim)
        terms: list[Term] = []
        for fields in space.maps("cells", gradients=True):  # the rule that keeps free expansion free of stress
            here = region[fields.domains[0].global_cells]
            for number in np.unique(here):
                part = fields if (here == number).all() else fields.selected(here == number)
                law = _Expansion(thickness * stress[number], self.name, reference)
                terms.append(form_term(Integrand(law, "ThermalStrain"), part, mesh.points, parameters, 1))
        return terms


class _Expansion:
    """``(T - T0) beta : grad v``."""

    def __init__(self, stress: FloatArray, name: str, reference: float) -> None:
        self.stress, self.name, self.reference = stress, name, reference

    def __call__(self, v: Any, w: Any) -> Any:
        dim = len(self.stress)
        work = sum(self.stress[i, j] * v.grad[i, j] for i in range(dim) for j in range(dim) if self.stress[i, j] != 0.0)
        return (w[self.name] - self.reference) * work
