"""User-defined weak forms that are nonlinear in the unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from skfem.element import Element

from femadj.errors import FormError
from femadj.forms.differentiation import energy_law
from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.integrand_law import FluxLaw
from femadj.forms.nonlinear import flux_law, flux_law_of, nonlinear_term, tried
from femadj.mesh import Mesh, require_mesh
from femadj.physics.base import BoundPhysics
from femadj.physics.form import Form, Integral, IntegralLike, form_terms, require_one_side
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import ParameterLike, Parameters
from femadj.space.parts import Part


class NonlinearForm(Form):
    """A PDE given by a weak form ``form(u, v, w)``, nonlinear in u and linear in v, with exact derivatives.

    Written as the bilinear forms of ``Form``. The internal forces are found by unit test functions, the tangent by
    guarded complex step: as many evaluations as there are pairs of values and derivatives of u and v (16 for a scalar
    in space, 144 for a vector), in every iteration.

    Parameters
    ----------
    nonlinear, linear : function, scikit-fem form, Integral, or a sequence of these
        Internal forces, ``form(u, v, w)``, over cells or boundary facets; and loads, ``form(v, w)``, which load steps
        apply in parts. A form with a rate multiplies a time derivative of u and must be linear in it: a capacity, mass
        or damping that does not depend on u.
    element, parameters, names
        As of ``Form``.
    definite : bool
        Whether the tangent is symmetric and positive definite, at all states that iterations come by.
    symmetric : bool, optional
        False: take the tangent to be general. True: FormError where it is not symmetric. Left out: found out.

    Raises
    ------
    FormError
        When the problem is built: as ``Form``; forms that are not linear in v; integrals over interior facets.
    """

    def __init__(
        self,
        nonlinear: IntegralLike,
        linear: IntegralLike = (),
        *,
        element: int | Literal["vector"] | Element = 1,
        parameters: Mapping[str, ParameterLike] | None = None,
        definite: bool = False,
        symmetric: bool | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            nonlinear, linear, element=element, parameters=parameters, definite=definite, symmetric=symmetric,
            names=names,
        )  # fmt: skip
        self._law: Callable[[Integrand, tuple[Part, ...]], FluxLaw] = flux_law

    @classmethod
    def energy(
        cls,
        density: IntegralLike,
        linear: IntegralLike = (),
        *,
        element: int | Literal["vector"] | Element = 1,
        parameters: Mapping[str, ParameterLike] | None = None,
        definite: bool = False,
        names: Sequence[str] | None = None,
    ) -> NonlinearForm:
        """The weak form of an energy ``int density(u, w)``: its first variation, by JAX (the extra ``jax``).

        Parameters
        ----------
        density : function, Integral, or a sequence of these
            ``density(u, w)``, written with ``jax.numpy``; it is evaluated at one point at a time, where every array has
            the shape ``(..., 1, 1)``.
        linear, element, parameters, definite, names
            As of ``NonlinearForm``.

        Raises
        ------
        MissingExtraError
            When the problem is built and JAX is not installed.
        """
        form = cls(density, linear, element=element, parameters=parameters, definite=definite, names=names)
        form._law = energy_law
        return form

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """Try the forms and bind them to the discretisation."""
        with parameters.explained(space.mesh):
            internal = [
                term
                for i in self._bilinear
                for term in (form_terms(i, space, parameters, 2, order) if i.rate else
                             self._internal(i, space, parameters, order))
            ]  # fmt: skip
            external = self._external(space, parameters, order)
        unequal = [term.law.name for term in internal if not term.symmetric]
        if self._symmetric and unequal:
            raise FormError(f"symmetric=True, but not symmetric in u and v are: {', '.join(map(repr, unequal))}")
        if self._definite and unequal:
            raise FormError(f"definite=True, but not even symmetric in u and v are: {', '.join(map(repr, unequal))}")
        symmetric = not unequal and self._symmetric is not False
        terms = tuple(term if symmetric or term.rate else _as_general(term) for term in internal)
        return BoundPhysics(terms, tuple(external), symmetric, symmetric and bool(self._definite), self.null_modes)

    def _internal(
        self, integral: Integral, space: Discretisation, parameters: Parameters, order: int | None
    ) -> list[IntegralTerm]:
        """A form on every block where it is integrated, tried there."""
        if integral.place(space.mesh) == "interior facets":
            raise FormError(
                f"form {integral.integrand.name!r}: nonlinear forms are integrated over cells and boundary facets, not "
                "over interior facets, where they would need u of both sides at once"
            )
        result = []
        for fields in integral.maps(space, order):
            law = self._law(integral.integrand, fields.parts)
            term = nonlinear_term(law, fields, space.mesh.points, parameters)
            if term.domain.is_facet:
                found = tried(term)
                require_one_side(integral, space.mesh, found.reads, found.hi > 1, parameters)
            result.append(term)
        return result

    def explain(self, mesh: Mesh) -> str:
        """What trying each nonlinear form on a mesh has found."""
        require_mesh(mesh)
        space = self.discretise(mesh, 1)
        parameters = Parameters.of(mesh, self._parameters, "NonlinearForm")
        lines = []
        for integral in self._bilinear:
            if integral.rate:
                lines.append(f"form {integral.integrand.name!r} of a time derivative: bilinear in u and v")
                continue
            for term in self._internal(integral, space, parameters, None):
                where = f"{integral.place(mesh)} ({integral.group or 'all'}, {term.domain.geometry.n_points} points)"
                kind = "symmetric" if term.symmetric else "unsymmetric"
                reads = tried(term).reads - {"state.grad"}
                lines.append(
                    f"nonlinear form {integral.integrand.name!r} over {where}: {kind} tangent; reads "
                    f"{', '.join(sorted(reads)) or 'nothing'}; {flux_law_of(term).cost}"
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Nonlinear{super().__repr__()}"


def _as_general(term: IntegralTerm) -> IntegralTerm:
    """The same form, taken to be unsymmetric in u and v."""
    laws = {sides: replace(law, symmetric=False) for sides, law in term.laws.items()}  # type: ignore[type-var]
    return replace(term, laws=laws, symmetric=False)
