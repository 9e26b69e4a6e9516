"""Functionals of one's own: integrals of any function of the state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from femadj.base.arrays import FloatArray
from femadj.conditions.loads import measure
from femadj.errors import ResponseError
from femadj.forms.differentiation import Differentiable, Differentiation, differentiable
from femadj.forms.integrand import Integrand, strict_complex
from femadj.forms.pointwise import (
    Quadrature,
    Slots,
    add_measure,
    add_parameter_slopes,
    add_transport,
    evaluated,
    interpolate,
    scatter,
)
from femadj.forms.probing import sample_of
from femadj.forms.transported_functional import integrate_transported
from femadj.physics import Integral, IntegralLike, integrals_of
from femadj.problems import Partials, Solution
from femadj.responses.base import CompleteResponse
from femadj.space.element import ElementSpace
from femadj.space.parameters import ParameterLike, Parameters
from femadj.space.region import Domain


@dataclass(frozen=True, eq=False)
class _Slopes:
    """What the integrand gives on some entities."""

    quadrature: Quadrature
    value: float
    state: FloatArray
    nodes: FloatArray
    parameters: Mapping[str, FloatArray]


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
        self._mean = bool(mean)
        self._differentiation: Differentiation = differentiation
        self._differentiables = self._ways(("u",))
        self._parameters = MappingProxyType(dict(parameters or {}))

    def partials(self, solution: Solution) -> Partials:
        """Value and partial derivatives."""
        parameters = self._all_parameters(solution)
        slopes = parameters.zeros()
        state = np.zeros_like(solution.u)
        nodes = np.zeros_like(solution.points)
        total = 0.0
        space = solution.at.space
        ways = self._differentiables if space.part_names == ("u",) else self._ways(space.part_names)
        for integral, way in zip(self._integrals, ways, strict=True):
            if isinstance(space, ElementSpace) and not space.nodal:
                _require_one_side(integral, solution, {"n", "state.grad"})
                if integral.place(space.mesh) == "interior facets":
                    raise ResponseError(f"{self!r}: functionals are integrated over cells and boundary facets")
                if self._differentiation != "complex step":
                    raise ResponseError(f"{self!r}: differentiation='jax' is for unknowns at the mesh nodes only")
                total += integrate_transported(
                    way.integrand, integral.place_on(space), space, solution.points, solution.u, parameters, state,
                    nodes, slopes,
                )  # fmt: skip
                continue
            for domain in integral.domains(space, None, gradients=False):
                total += _integrate(integral, way, domain, solution, parameters, state, nodes, slopes)
        factor = 1.0
        if self._mean:
            size, by_size = self._size(solution)
            total /= size
            factor = 1.0 / size
            nodes -= total * by_size
        if self._power != 1.0:
            if total <= 0:
                raise ResponseError(f"{self!r}: the integral is {total:g}, which has no power {self._power:g}")
            factor *= self._power * total ** (self._power - 1)
            total = total**self._power
        state *= factor
        nodes *= factor
        return Partials(total, state=state, points=nodes, parameters={n: factor * s for n, s in slopes.items()})

    def _size(self, solution: Solution) -> tuple[float, FloatArray]:
        """Volume or area that is integrated over, and its derivative by the nodes."""
        space, points = solution.at.space, solution.points
        gradient, nothing = np.zeros_like(points), np.zeros((len(points), 1))
        size = 0.0
        for integral in self._integrals:
            if isinstance(space, ElementSpace) and not space.nodal:
                domains = [side.domain.on_geometry for side in integral.place_on(space).sides]
            else:
                domains = integral.domains(space, None, gradients=False)
            size += sum(measure(domain).contract(points, nothing, gradient) for domain in domains)
        return size, gradient

    def _ways(self, names: tuple[str, ...]) -> list[Differentiable]:
        """The integrands as functions of parts of the state with these names."""
        return [differentiable(_with_state(i.integrand, names), self._differentiation) for i in self._integrals]

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


def _integrate(
    integral: Integral,
    way: Differentiable,
    domain: Domain,
    solution: Solution,
    parameters: Parameters,
    state: FloatArray,
    nodes: FloatArray,
    by_parameters: Mapping[str, FloatArray],
) -> float:
    """Integrate over a domain; add the derivatives by state, nodes and parameters."""
    integrand = way.integrand
    points, dim = solution.points, domain.dim

    def arguments(quadrature: Quadrature) -> list[Slots]:
        value, gradient = interpolate(quadrature.domain, points, solution.u)
        return [Slots(value, gradient, lambda: quadrature.reads.add("state.grad"))]

    sample = Quadrature(sample_of(domain), points, parameters)
    with strict_complex():
        tried = arguments(sample)
        sample.evaluate(integrand, [a.field for a in tried])
        reads = set(sample.reads)
        _require_one_side(integral, solution, reads)

    def slopes(piece: Domain) -> _Slopes:
        quadrature = Quadrature(piece, points, parameters)
        fields, read = arguments(quadrature), set(reads)
        while True:
            slots = range(dim + 1 if "state.grad" in read else 1)
            found = way.slopes(quadrature, fields, [slots], read)
            if quadrature.reads <= read:
                break
            read |= quadrature.reads  # a branch that the sample has not met
            _require_one_side(integral, solution, read)
        (by_state,), force = found.arguments, found.surroundings
        add_measure(force, found.value, quadrature.frame.normal if piece.is_facet else None)
        if len(slots) > 1:
            add_transport(force, fields[0].gradient, by_state[:, 1:])
        value = float((found.value * quadrature.frame.measure).sum())
        return _Slopes(quadrature, value, by_state, force, found.parameters)

    total = 0.0
    for piece, found in evaluated(domain, slopes):
        total += found.value
        scatter(piece, points, found.state, state)
        scatter(piece.on_geometry, points, found.nodes, nodes)
        add_parameter_slopes(found.quadrature, found.parameters, by_parameters, 1.0)
    return total


def _require_one_side(integral: Integral, solution: Solution, reads: set[str]) -> None:
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
