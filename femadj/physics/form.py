"""User-defined forms: scikit-fem's bilinear and linear forms as a physics."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

import numpy as np
from skfem.element import Element, ElementVector

from femadj.base.arguments import flag, mapping_of, one_of, whole_number
from femadj.base.arrays import FloatArray
from femadj.errors import FormError, MaterialError, ParameterError, ProblemError
from femadj.forms.integral import IntegralTerm
from femadj.forms.integrand import Integrand
from femadj.forms.probed import as_general, form_term, probe_of
from femadj.mesh import Mesh, require_mesh
from femadj.mesh.reference import skfem_element
from femadj.physics.base import BoundPhysics, NullModes, Unscaled
from femadj.space.discretisation import Discretisation
from femadj.space.element import ElementSpace, default_names, describe, names_of, parts_of
from femadj.space.maps import FieldMap, Over
from femadj.space.parameters import ParameterLike, Parameters
from femadj.space.parts import Part


@dataclass(frozen=True, eq=False)
class Integral:
    """A form together with where it is integrated.

    Parameters
    ----------
    form : callable, or a scikit-fem form
        ``form(u, v, w)`` (bilinear), ``form(v, w)`` (linear) or ``form(w)`` (functional).
    group : str, optional
        Cell group or facet group; left out: all cells (or, with ``over``, all boundary or all interior facets).
    order : int, optional
        Degree of the quadrature.
    over : "cells", "facets" or "interior facets", optional
        What the group is; found out by its name when left out.
    name : str, optional
        For messages; the function's own when left out.
    rate : int
        Of a bilinear form: the order of the time derivative of u that it multiplies: 0 stiffness, 1 damping or
        capacity, 2 mass.
    sides : "pairs" or "each", optional
        Over interior facets, what a bilinear form is called for: all pairs of the sides of u and v (``w.idx`` has two
        entries), or each side with itself (``w.idx`` has one), as scikit-fem's ``asm(form, [side0, side1])`` does. Left
        out: all pairs; FormError for forms that do not read the side of v, which could mean either.
    """

    form: Any
    group: str | None = None
    order: int | None = None
    over: Over | None = None
    name: str | None = None
    sides: Literal["pairs", "each"] | None = None
    rate: int = 0

    def __post_init__(self) -> None:
        if self.over is not None:
            one_of(self.over, get_args(Over), "over", FormError)
        if self.sides is not None:
            one_of(self.sides, ("pairs", "each"), "sides", FormError)
        if self.order is not None:
            whole_number(self.order, 0, "order", FormError)
        whole_number(self.rate, 0, "rate", FormError)
        if self.rate > 2:
            raise FormError(f"rate is the order of a time derivative, 0, 1 or 2, not {self.rate}")
        if self.group is not None and not isinstance(self.group, str):
            raise FormError(f"group must be the name of a cell or facet group, not {type(self.group).__name__}")
        Integrand.of(self.form, self.name)

    @property
    def integrand(self) -> Integrand:
        """The form with its name."""
        return Integrand.of(self.form, self.name)

    def place(self, mesh: Mesh) -> Over:
        """What is integrated over on a mesh."""
        if self.over is not None:
            return self.over
        if self.group is None or self.group not in mesh.facet_groups:
            return "cells"
        if self.group in mesh.cell_groups:
            raise FormError(
                f"form {self.integrand.name!r}: {self.group!r} names cells and facets; say which by over='cells' or "
                "over='facets'"
            )
        return "facets"

    def maps(self, space: Discretisation, order: int | None = None, *, gradients: bool = False) -> list[FieldMap]:
        """Field maps where it is integrated; ``gradients``: whether only gradients enter."""
        order = self.order if self.order is not None else order
        try:
            return space.maps(self.place(space.mesh), self.group, order, gradients=gradients)
        except (FormError, ProblemError) as error:
            raise FormError(f"form {self.integrand.name!r}: {error}") from error


IntegralLike = Any
"""A function, a scikit-fem form, an ``Integral``, or a sequence of these."""


def integrals_of(given: IntegralLike, what: str) -> tuple[Integral, ...]:
    """Normalise what users give for a form."""
    items = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    result = []
    for item in items:
        if not isinstance(item, Integral) and not callable(item) and not hasattr(item, "form"):
            raise FormError(f"{what} must be functions, scikit-fem forms or Integral(...), not {item!r}")
        result.append(item if isinstance(item, Integral) else Integral(item))
    return tuple(result)


MOST_COMPONENTS = 100
"""Of an unknown at a node."""


class Form(Unscaled):
    """A linear PDE given by scikit-fem forms, with exact derivatives by nodes and parameters.

    ``bilinear(u, v, w)`` and ``linear(v, w)`` are written with NumPy and ``skfem.helpers``: values and gradients of u
    and v (divergence and curl of H(div) and H(curl) fields), ``w.x``, ``w.n`` (outward normal, on facets), ``w.h``
    (mesh size) and parameters by name. With an element of several parts they are ``bilinear(u, p, v, q, w)`` and
    ``linear(v, q, w)``. Over interior facets a form is called for each pair of sides, which ``w.idx`` tells (see
    ``skfem.helpers.jump``); ``w.n`` is the normal of the first side.

    Parameters
    ----------
    bilinear, linear : function, scikit-fem form, Integral, or a sequence of these
        Bare functions are integrated over all cells; ``Integral(form, "group")`` over a cell or facet group,
        ``Integral(form, over="interior facets")`` over the facets between two cells.
    element : int, "vector" or scikit-fem element
        Components of the unknown at every node of the mesh: 1 for a scalar, ``"vector"`` for as many as dimensions.
        Or an element: another order than the mesh's, discontinuous, H(div), H(curl), ``ElementVector`` and
        ``ElementComposite``; the mesh then has one block of cells.
    parameters : mapping of name to number, array, NodalField or CellField, optional
        What forms read as ``w.name``; gradients by all of them come with ``Gradient.parameters``.
    definite : bool, optional
        Whether a symmetric matrix is positive definite; when left out it is found out from the coefficients for fields
        at the mesh nodes, and taken to be indefinite for other elements.
    symmetric : bool, optional
        False: take the matrix to be general, though the forms are symmetric where they are sampled when the problem is
        built. True: FormError where they are not.
    names : sequence of str, optional
        Names of the parts of the unknown, for supports and ``Solution.part``: ``("u",)``, ``("u", "p")``, or ``u0``,
        ``u1``, ... when left out.

    Raises
    ------
    FormError
        When the problem is built: forms that raise, return wrong shapes, are not linear in u or v, read what is not
        there, or cannot be differentiated; elements that are not supported.
    """

    def __init__(
        self,
        bilinear: IntegralLike,
        linear: IntegralLike = (),
        *,
        element: int | Literal["vector"] | Element = 1,
        parameters: Mapping[str, ParameterLike] | None = None,
        definite: bool | None = None,
        symmetric: bool | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self._bilinear = integrals_of(bilinear, "bilinear forms")
        self._linear = integrals_of(linear, "linear forms")
        if not self._bilinear:
            raise FormError("give at least one bilinear form")
        for integral in self._linear:
            if integral.rate:
                raise FormError(
                    f"form {integral.integrand.name!r} is linear in v alone: only bilinear forms have a rate"
                )
        self._parts: tuple[Part, ...] | None = None
        if isinstance(element, (type, Element)):
            self._parts = parts_of(element, names)
            self._names = tuple(part.name for part in self._parts)
        else:
            if not isinstance(element, str) or element != "vector":
                what = "element, a number of components, 'vector' or a scikit-fem element,"
                whole_number(element, 1, what, FormError)
                if int(element) > MOST_COMPONENTS:
                    raise FormError(f"element: {element} components are more than {MOST_COMPONENTS}")
            self._names = default_names(1) if names is None else names_of(names, 1)
        self._element = element
        self._parameters = MappingProxyType(dict(mapping_of(parameters, "parameters", ParameterError)))
        for value, what in ((definite, "definite"), (symmetric, "symmetric")):
            if value is not None:
                flag(value, what, FormError)
        self._definite = definite
        self._symmetric = symmetric

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """Declared parameters by name."""
        return self._parameters

    @property
    def quantity(self) -> Literal["displacement", "scalar", "mixed"]:
        """Decides which of the built-in loads fit: those of a scalar, or those of a vector."""
        if self._parts is None:
            return "scalar" if self._element == 1 else "displacement"
        if len(self._parts) > 1 or self._parts[0].kind != "H1":
            return "mixed"
        return "displacement" if self._parts[0].vector else "scalar"

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the components."""
        if self._parts is not None and self.quantity == "mixed":
            return tuple(
                f"{part.name}.{component}" if component else part.name
                for part in self._parts
                for component in part.component_names or ("",)
            )
        if self._parts is not None:
            n = self._parts[0].components
        else:
            n = dim if self._element == "vector" else int(self._element)
        if n == 1:
            return self._names
        return ("x", "y", "z")[:n] if n == dim else tuple(f"u{i}" for i in range(n))

    def thickness_in(self, dim: int) -> float:
        """One: forms say themselves what they integrate."""
        return 1.0

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Forms have no density."""
        raise MaterialError("a Form has no density: inertia is a form with a rate; write the mass as a Functional")

    def null_modes(self, points: FloatArray) -> NullModes:
        """Not known; the solver finds out."""
        return NullModes((), np.zeros((0, len(points), 1)))

    def _nodal_components(self, mesh: Mesh) -> int | None:
        """Components of a field with values at the mesh nodes; None for other elements."""
        if not isinstance(self._element, Element):
            return len(self.components(mesh.dim))
        if len(mesh.blocks) != 1:
            return None
        own = type(skfem_element(mesh.blocks[0].type))
        if isinstance(self._element, ElementVector):
            return int(self._element.dim) if type(self._element.elem) is own else None
        return 1 if type(self._element) is own else None

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """The unknowns: at the mesh nodes, or those of an element."""
        components = self._nodal_components(mesh)
        inside = [i for i in (*self._bilinear, *self._linear) if i.place(mesh) == "interior facets"]
        if components is not None and not inside:
            return Discretisation.of(mesh, components, threads, self._names[0])
        element = self._element
        if not isinstance(element, Element):
            own = skfem_element(mesh.blocks[0].type)
            element = own if components == 1 else ElementVector(own, components)
        space = ElementSpace.on(mesh, element, self._names, threads, isoparametric=components is not None)
        if not inside:
            return space
        facets = [space.interior_facets(integral.group) for integral in inside]
        return replace(space, interior=np.unique(np.concatenate(facets)))

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """Probe the forms and bind them to the discretisation."""
        with parameters.explained(space.mesh):
            internal = [(i, term) for i in self._bilinear for term in form_terms(i, space, parameters, 2, order)]
            external = self._external(space, parameters, order)
        definite = all(term.fields.compiled and probe_of(term).definite for _, term in internal)
        unequal = [integral for integral, term in internal if not term.symmetric]
        if self._symmetric and unequal:
            names = ", ".join(repr(integral.integrand.name) for integral in unequal)
            raise FormError(f"symmetric=True, but not symmetric in u and v are: {names}")
        symmetric = not unequal and self._symmetric is not False
        if self._definite is not None:
            definite = self._definite
        terms = [as_general(term) if self._symmetric is False else term for _, term in internal]
        return BoundPhysics(tuple(terms), tuple(external), symmetric, symmetric and definite, self.null_modes)

    def _external(self, space: Discretisation, parameters: Parameters, order: int | None) -> list[IntegralTerm]:
        """The linear forms."""
        return [term for i in self._linear for term in form_terms(i, space, parameters, 1, order)]

    def explain(self, mesh: Mesh) -> str:
        """Which way each form goes on a mesh, and why."""
        require_mesh(mesh)
        space = self.discretise(mesh, 1)
        parameters = Parameters.of(mesh, self._parameters, "Form")
        lines = []
        for arity, integrals in ((2, self._bilinear), (1, self._linear)):
            kind = "bilinear" if arity == 2 else "linear"
            for integral in integrals:
                head = f"{kind} form {integral.integrand.name!r} over {integral.place(mesh)} ({integral.group or 'all'}"
                for term in form_terms(integral, space, parameters, arity, None):
                    cell = f"{mesh.blocks[term.domain.block].type}, " if term.fields.compiled else ""
                    points = f"{term.domain.geometry.n_points} points"
                    route = _route(term, space)
                    lines.append(f"{head}, {cell}{points}): {route}; {probe_of(term).describe(parameters)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = ", ".join(i.integrand.name for i in (*self._bilinear, *self._linear))
        element = describe(self._element) if isinstance(self._element, Element) else repr(self._element)
        return f"Form({names}; element={element})"


def _route(term: IntegralTerm, space: Discretisation) -> str:
    """Which way a form goes, and why."""
    if term.fields.compiled:
        return "compiled kernels, because the unknown has its values at the mesh nodes"
    if len(term.domains) > 1:
        return "transported fields, because it joins the fields of two cells"
    element = describe(getattr(space, "element", None))
    cell = space.mesh.blocks[0].type
    return f"transported fields, because the unknowns of {element} are not values at the nodes of {cell} cells"


def form_terms(
    integral: Integral, space: Discretisation, parameters: Parameters, arity: int, order: int | None
) -> list[IntegralTerm]:
    """A form on every block where it is integrated, probed there."""
    points = space.mesh.points
    result = []
    for fields in integral.maps(space, order):
        term = form_term(integral.integrand, fields, points, parameters, arity, integral.sides)
        term = replace(term, rate=integral.rate)
        if fields.compiled:
            found, domain = probe_of(term), term.domain
            if domain.is_facet:
                require_one_side(integral, space.mesh, found.reads, found.hi > 1, parameters)
            if arity == 2 and found.lo > 0 and not found.varies_within(parameters):
                # products of gradients with constant coefficients: the rule of the stiffness
                rule = integral.maps(space, order, gradients=True)
                (same,) = [f for f in rule if f.domains[0].block == domain.block]
                term = replace(term, fields=same)
        result.append(term)
    return result


def require_one_side(
    integral: Integral, mesh: Mesh, reads: Collection[str], gradients: bool, parameters: Parameters
) -> None:
    """FormError for normals, gradients and cell fields on facets between cells, where they have two values."""
    inside = 0 if integral.group is None else int(mesh.facets(integral.group).interior.sum())
    if not inside:
        return
    sided = ["the normal"] if "n" in reads else []
    if gradients or any(f"{name}.grad" in reads for name in parameters):
        sided.append("gradients")
    sided += [
        f"the cell field {name!r}"
        for name, entry in parameters.entries.items()
        if entry.kind == "cell" and name in reads
    ]
    if sided:
        raise FormError(
            f"form {integral.integrand.name!r} reads {' and '.join(sided)} on {integral.group!r}, where {inside} "
            "facets lie between two cells and have two of them; use a facet group on the boundary, or "
            "over='interior facets'"
        )
