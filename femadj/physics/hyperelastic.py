"""Hyperelastic bodies of any displacement and rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import flag, one_of
from femadj.base.jet import values_of
from femadj.errors import MaterialError
from femadj.forms.hyperelastic_law import HyperelasticLaw, Stored
from femadj.forms.integral import IntegralTerm
from femadj.mesh import Mesh
from femadj.physics.base import Body, BoundPhysics, NullModes, checked_nu, finite, for_each, positive, rigid_motions
from femadj.physics.material import Regional, require_poisson, require_positive
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import Parameters


@dataclass(frozen=True)
class Hyperelastic(Body):
    """An elastic body under large displacements, ``int P(F) : grad v`` with ``F = I + grad u``.

    Integrals, loads included, are over the undeformed body; in the plane it is one of plane strain.

    Parameters
    ----------
    E, nu : number, mapping of cell group to number, or CellField
        Young's modulus [force/length^2] and Poisson's ratio for small strains. They are parameters of the problem, as
        are ``density`` and (of a plane body) ``thickness``.
    lame, mu : the same, instead of E and nu
        Lamé's constants; ``mu`` is the shear modulus.
    stored : "neo-Hooke" or "St. Venant-Kirchhoff"
        Stored energy: ``mu/2 (tr(F^T F) - 3) - mu ln J + lame/2 (ln J)^2``, or ``lame/2 (tr E)^2 + mu E : E`` with
        Green's strain, which gives way under strong compression.
    density : number or mapping, optional
        Mass per undeformed volume, for ``Gravity`` and ``Mass``.
    thickness : float
        Of a plane body.
    definite : bool
        Whether the tangent must be positive definite at all states that iterations come by; it is factorised faster.
        False: it may be indefinite, as it is on the way to large rotations, and at equilibria that are not stable
        (``LoadStep.negative`` tells).

    Raises
    ------
    MaterialError
        For constants out of range.
    """

    E: Regional | None = None
    nu: Regional | None = None
    lame: Regional | None = None
    mu: Regional | None = None
    stored: Stored = "neo-Hooke"
    density: Regional | None = None
    thickness: float = 1.0
    definite: bool = False

    def __post_init__(self) -> None:
        given = tuple(name for name in ("E", "nu", "lame", "mu") if getattr(self, name) is not None)
        if given not in {("E", "nu"), ("lame", "mu")}:
            raise MaterialError(f"give E and nu, or lame and mu, not {', '.join(given) or 'nothing'}")
        checks: dict[str, Any] = {"E": positive, "nu": checked_nu, "lame": finite, "mu": positive}
        for name in given:
            for_each(getattr(self, name), checks[name], name)
        one_of(self.stored, get_args(Stored), "stored", MaterialError)
        if self.density is not None:
            for_each(self.density, positive, "density")
        positive(self.thickness, "thickness")
        flag(self.definite, "definite", MaterialError)

    @property
    def quantity(self) -> Literal["displacement"]:
        """The unknown is a displacement."""
        return "displacement"

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the displacement components."""
        return ("x", "y", "z")[:dim]

    @property
    def _names(self) -> tuple[str, ...]:
        return ("E", "nu") if self.mu is None else ("lame", "mu")

    @property
    def constants(self) -> Mapping[str, Regional]:
        """Constants of the material by name, without the thickness."""
        return {name: getattr(self, name) for name in self._names} | dict(super().constants)

    def _lame(self, *values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Lamé's constants ``(n, 2)`` of regions."""
        first, second = values
        if self.mu is not None:
            require_positive(values_of(second), "mu")
            if not (values_of(first) > -2 / 3 * values_of(second)).all():
                raise MaterialError("lame must be above -2/3 of mu, where the bulk modulus vanishes")
            return np.stack([first, second], axis=1)
        require_positive(values_of(first), "E")
        require_poisson(values_of(second), "nu")
        lame = first * second / ((1 + second) * (1 - 2 * second))
        return np.stack([lame, first / (2 * (1 + second))], axis=1)

    def law(self, mesh: Mesh) -> HyperelasticLaw:
        """The law of the material, a function of its constants."""
        return HyperelasticLaw(self.scaled(mesh, self._lame, self._names), self.stored, mesh.dim)

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """An isoparametric field."""
        return Discretisation.of(mesh, mesh.dim, threads)

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """The internal forces, block by block."""
        law = self.law(space.mesh)
        law.tensor.at(parameters)  # a material that does not fit the mesh is refused before anything is solved
        terms = [
            IntegralTerm.of(fields, law, symmetric=True) for fields in space.maps("cells", order=order, gradients=True)
        ]
        return BoundPhysics(tuple(terms), (), True, self.definite, self.null_modes)

    def null_modes(self, points: npt.NDArray[np.float64]) -> NullModes:
        """Translations and infinitesimal rotations."""
        return rigid_motions(points)
