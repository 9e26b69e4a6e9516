"""User-defined functionals: integrals of any function of the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from femadj.base.arguments import flag, mapping_of
from femadj.base.arrays import FloatArray
from femadj.errors import ParameterError, ResponseError
from femadj.forms.differentiation import Differentiable, Differentiation, differentiable
from femadj.forms.functional import PointFunctional
from femadj.forms.integrand import Integrand
from femadj.physics import Integral, IntegralLike, integrals_of
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse
from femadj.space.maps import FieldMap
from femadj.space.nodal import total as total_size
from femadj.space.parameters import ParameterLike, Parameters


class Functional(CompleteResponse):
    """``(int f dx)^power`` or ``(int f dx / int dx)^power``.

    ``f`` is a function of the state, its gradient, position, normal and parameters.

    ``f(w)`` is written like a scikit-fem functional: ``w.u`` is the state (``w.u.grad`` its gradient; the parts of a
    mixed unknown have the names that its Form gives them), ``w.x`` the coordinates, ``w.n`` the outward normal
    (facets), ``w.h`` the mesh size; the parameters of the problem and those of the functional are found by their names.
    It may be nonlinear. Values and derivatives are exact for the quadrature in use; ``order`` of an ``Integral`` sets
    its degree (that of products of two shape functions when left out).

    Parameters
    ----------
    integrals : function, scikit-fem Functional, Integral, or a sequence of these
        Bare functions are integrated over all cells; several are summed.
    power : float
        Exponent of the sum: ``1/p`` makes a p-norm of ``f**p``.
    mean : bool
        Whether the integral is divided by the volume or area that is integrated over, which moves with the nodes.
    parameters : mapping of name to number, array, NodalField or CellField, optional
        Parameters of its own; gradients by them come with ``Gradient.parameters``.
    differentiation : "complex step" or "jax"
        How the functions are differentiated. With ``"jax"`` (the extra ``jax``) by JAX's automatic differentiation:
        write them with ``jax.numpy`` or ``skfem.autodiff.helpers``, not with NumPy.

    Raises
    ------
    FormError
        When it is evaluated: a function that raises, returns a wrong shape or NaN, or cannot be differentiated.
    MissingExtraError
        When JAX is asked for and not installed.
    """

    def __init__(
        self,
        integrals: IntegralLike,
        *,
        power: float = 1.0,
        mean: bool = False,
        parameters: Mapping[str, ParameterLike] | None = None,
        differentiation: Differentiation = "complex step",
    ) -> None:
        self._integrals = integrals_of(integrals, "functionals")
        if not self._integrals:
            raise ResponseError("give at least one function to integrate")
        if not isinstance(power, (int, float)) or not np.isfinite(power) or power == 0:
            raise ResponseError(f"power must be a number other than zero, not {power!r}")
        self._power = float(power)
        flag(mean, "mean", ResponseError)
        self._mean = bool(mean)
        self._differentiation: Differentiation = differentiation
        self._by_names: dict[tuple[str, ...], list[Differentiable]] = {}
        self._ways(("u",))
        self._parameters = MappingProxyType(dict(mapping_of(parameters, "parameters", ParameterError)))

    def value(self, solution: Solution) -> float:
        """Its value alone."""
        total, parameters = 0.0, self._all_parameters(solution)
        with parameters.explained(solution.problem.mesh):
            for integral, integrated in self._integrated(solution, parameters):
                _require_one_side(integral, solution, integrated.reads())
                total += integrated.value()
        if self._mean:
            total /= self._size(solution)
        return total if self._power == 1.0 else self._positive(total) ** self._power

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        parameters = self._all_parameters(solution)
        nodes = np.zeros_like(solution.at.points)
        slopes = {name: zeros.astype(nodes.dtype) for name, zeros in parameters.zeros().items()}
        state = np.zeros(solution.u.shape, dtype=nodes.dtype)
        with parameters.explained(solution.problem.mesh):
            total = sum(
                integrated.add_partials(state, nodes, slopes, partial(_require_one_side, integral, solution))
                for integral, integrated in self._integrated(solution, parameters)
            )
        factor = 1.0
        if self._mean:
            by_size = np.zeros_like(nodes)
            size = self._size(solution, by_size)
            total /= size
            factor = 1.0 / size
            nodes -= total * by_size
        if self._power != 1.0:
            factor *= self._power * self._positive(total) ** (self._power - 1)
            total = total**self._power
        state *= factor
        nodes *= factor
        return Partials(total, state=state, points=nodes, parameters={n: factor * s for n, s in slopes.items()})

    def _integrated(self, solution: Solution, parameters: Parameters) -> Iterator[tuple[Integral, PointFunctional]]:
        """Integrals over every block, at the solution."""
        space = solution.at.space
        for integral, way in zip(self._integrals, self._ways(space.part_names), strict=True):
            if not space.nodal:
                _require_one_side(integral, solution, {"n", "state.grad"})
            for fields in self._maps(integral, solution):
                yield integral, PointFunctional(way, fields, solution.at.points, parameters, np.asarray(solution.u))

    def _maps(self, integral: Integral, solution: Solution) -> list[FieldMap]:
        space = solution.at.space
        if integral.place(space.mesh) == "interior facets":
            raise ResponseError(
                f"{self!r}: functionals are integrated over cells and boundary facets, not over interior facets"
            )
        return integral.maps(space)

    def _size(self, solution: Solution, gradient: FloatArray | None = None) -> float:
        """Volume or area that is integrated over; its derivative by the nodes is added to ``gradient``."""
        domains = [
            domain.on_geometry
            for integral in self._integrals
            for fields in self._maps(integral, solution)
            for domain in fields.domains
        ]
        return total_size(domains, solution.at.points, gradient=gradient)

    def _positive(self, integral: float) -> float:
        if not np.real(integral) > 0:
            raise ResponseError(f"{self!r}: the integral is {integral:g}, which has no power {self._power:g}")
        return integral

    def _ways(self, names: tuple[str, ...]) -> list[Differentiable]:
        """The integrands as functions of parts of the state with these names."""
        if names not in self._by_names:
            self._by_names[names] = [
                differentiable(_with_state(i.integrand, names), self._differentiation) for i in self._integrals
            ]
        return self._by_names[names]

    def _all_parameters(self, solution: Solution) -> Parameters:
        own = Parameters.of(solution.problem.mesh, self._parameters, repr(self))
        shared = sorted(set(own) & set(solution.parameters))
        if shared:
            raise ResponseError(
                f"{self!r}: {shared[0]!r} is a parameter of the problem, which the functional reads anyway; do not "
                "declare it again"
            )
        for name in solution.at.space.part_names:
            if name in own or name in solution.parameters:
                raise ResponseError(f"{self!r}: the name {name!r} is that of the state; give the parameter another one")
        return own.merged(solution.parameters)

    def __repr__(self) -> str:
        names = ", ".join(i.integrand.name for i in self._integrals)
        mean = "; mean" if self._mean else ""
        return f"Functional({names}{mean}{'' if self._power == 1.0 else f'; power={self._power:g}'})"


def _with_state(integrand: Integrand, names: tuple[str, ...]) -> Integrand:
    """The integrand as a function of the state, which ``w`` then holds."""

    def function(*arguments: Any) -> Any:
        *fields, w = arguments
        for name, field in zip(names, fields, strict=True):
            w.insert(name, field)
        return integrand.function(w)

    return Integrand(function, integrand.name)


def _require_one_side(integral: Integral, solution: Solution, reads: Set[str]) -> None:
    """Normals and gradients have two values on facets between cells."""
    mesh = solution.problem.mesh
    if integral.place(mesh) != "facets" or integral.group is None:
        return
    inside = int(mesh.facets(integral.group).interior.sum())
    sided = [what for what, read in (("the normal", "n"), ("the gradient of the state", "state.grad")) if read in reads]
    if inside and sided:
        raise ResponseError(
            f"functional {integral.integrand.name!r} reads {' and '.join(sided)} on {integral.group!r}, where {inside} "
            "facets lie between two cells and have two of them; use a facet group on the boundary"
        )
