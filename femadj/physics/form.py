"""Forms of one's own: scikit-fem's bilinear and linear forms as a physics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.discretisation import Discretisation, Domain
from femadj.errors import FormError, MaterialError
from femadj.forms import FormBilinear, FormLinear, Integrand, Probe, probe
from femadj.integrals import BilinearIntegral, LoadTerm, MatrixTerm
from femadj.mesh import Mesh
from femadj.parameters import ParameterLike, Parameters
from femadj.physics.base import BoundPhysics, NullModes

FloatArray = npt.NDArray[np.float64]
Over = Literal["cells", "facets", "interior facets"]


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
    """

    form: Any
    group: str | None = None
    order: int | None = None
    over: Over | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.over not in (None, "cells", "facets", "interior facets"):
            raise FormError(f"over must be 'cells', 'facets' or 'interior facets', not {self.over!r}")
        if self.order is not None and (not isinstance(self.order, int) or self.order < 0):
            raise FormError(f"order must be a whole number, not {self.order!r}")
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

    def domains(self, space: Discretisation, order: int | None, *, gradients: bool) -> list[Domain]:
        """Where it is integrated, block by block; ``gradients``: whether only gradients enter."""
        order = self.order if self.order is not None else order
        place = self.place(space.mesh)
        if place == "cells":
            return space.cells("stiffness" if gradients else "mass", self.group, order)
        facets = space.mesh.boundary() if self.group is None else space.mesh.facets(self.group)
        return space.facets(facets, order)


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


class Form:
    """A linear PDE given by scikit-fem forms, with exact derivatives by nodes and parameters.

    ``bilinear(u, v, w)`` and ``linear(v, w)`` are written with NumPy and ``skfem.helpers``: values and gradients of u
    and v, ``w.x``, ``w.n`` (outward normal, on facets), ``w.h`` (mesh size) and parameters by name.

    Parameters
    ----------
    bilinear, linear : function, scikit-fem form, Integral, or a sequence of these
        Bare functions are integrated over all cells; ``Integral(form, "group")`` over a cell or facet group.
    element : int or "vector"
        Components of the unknown at every node of the mesh: 1 for a scalar, ``"vector"`` for as many as dimensions.
    parameters : mapping of name to number, array, NodalField or CellField, optional
        What forms read as ``w.name``; gradients by all of them come with ``Gradient.parameters``.
    definite : bool, optional
        Whether a symmetric matrix is positive definite; found out from the coefficients when left out.

    Raises
    ------
    FormError
        When the problem is built: forms that raise, return wrong shapes, are not linear in u or v, read what is not
        there, or cannot be differentiated.
    """

    def __init__(
        self,
        bilinear: IntegralLike,
        linear: IntegralLike = (),
        *,
        element: int | Literal["vector"] = 1,
        parameters: Mapping[str, ParameterLike] | None = None,
        definite: bool | None = None,
    ) -> None:
        self._bilinear = integrals_of(bilinear, "bilinear forms")
        self._linear = integrals_of(linear, "linear forms")
        if not self._bilinear:
            raise FormError("give at least one bilinear form")
        if element != "vector" and (isinstance(element, bool) or not isinstance(element, int) or element < 1):
            raise FormError(f"element must be a number of components or 'vector', not {element!r}")
        self._element = element
        self._parameters = MappingProxyType(dict(parameters or {}))
        self._definite = definite

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """Declared parameters by name."""
        return self._parameters

    @property
    def quantity(self) -> Literal["displacement", "scalar"]:
        """Decides which of the built-in loads fit: those of a scalar, or those of a vector."""
        return "scalar" if self._element == 1 else "displacement"

    def components(self, dim: int) -> tuple[str, ...]:
        """Names of the components."""
        n = dim if self._element == "vector" else int(self._element)
        if n == 1:
            return ("u",)
        return ("x", "y", "z")[:n] if n == dim else tuple(f"u{i}" for i in range(n))

    def thickness_in(self, dim: int) -> float:
        """One: forms say themselves what they integrate."""
        return 1.0

    def density_of(self, mesh: Mesh) -> FloatArray:
        """Forms have no density."""
        raise MaterialError("a Form has no density; write the mass as a Functional")

    def null_modes(self, points: FloatArray) -> NullModes:
        """Not known; the solver finds out."""
        return NullModes((), np.zeros((0, len(points), 1)))

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """An isoparametric field."""
        return Discretisation.of(mesh, len(self.components(mesh.dim)), threads)

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """Probe the forms and bind them to the discretisation."""
        stiffness: list[MatrixTerm] = []
        probes: list[Probe] = []
        for integral in self._bilinear:
            for domain, found in _probed(integral, space, parameters, 2, order):
                probes.append(found)
                stiffness.append(_bilinear_term(domain, found, parameters))
        loads: list[LoadTerm] = [
            FormLinear(domain, found, parameters)
            for integral in self._linear
            for domain, found in _probed(integral, space, parameters, 1, order)
        ]
        symmetric = all(found.symmetric for found in probes)
        definite = self._definite if self._definite is not None else all(found.definite for found in probes)
        return BoundPhysics(tuple(stiffness), tuple(loads), symmetric, symmetric and definite)

    def explain(self, mesh: Mesh) -> str:
        """Which way each form goes on a mesh, and why."""
        space = self.discretise(mesh, 1)
        parameters = Parameters.of(mesh, self._parameters, "Form")
        lines = []
        for arity, integrals in ((2, self._bilinear), (1, self._linear)):
            for integral in integrals:
                for domain, found in _probed(integral, space, parameters, arity, None):
                    kind = "bilinear" if arity == 2 else "linear"
                    where = integral.group or "all"
                    cell = mesh.blocks[domain.block].type
                    lines.append(
                        f"{kind} form {integral.integrand.name!r} over {integral.place(mesh)} ({where}, {cell}, "
                        f"{domain.geometry.n_points} points): compiled kernels; {found.describe(parameters)}"
                    )
        return "\n".join(lines)

    def __repr__(self) -> str:
        names = ", ".join(i.integrand.name for i in (*self._bilinear, *self._linear))
        return f"Form({names}; element={self._element!r})"


def _probed(
    integral: Integral, space: Discretisation, parameters: Parameters, arity: int, order: int | None
) -> list[tuple[Domain, Probe]]:
    """Domains of an integral, each with what probing the form there has found."""
    components = (space.n_components,)
    points = space.mesh.points
    rich = integral.domains(space, order, gradients=False)
    result = []
    for domain in rich:
        found = probe(integral.integrand, domain, points, parameters, components, arity)
        if arity == 2 and found.lo > 0 and not found.varies_within(parameters):
            # products of gradients with constant coefficients: the rule of the stiffness
            same = [d for d in integral.domains(space, order, gradients=True) if d.block == domain.block]
            result.append((same[0], found))
        else:
            result.append((domain, found))
    return result


def _bilinear_term(domain: Domain, found: Probe, parameters: Parameters) -> MatrixTerm:
    """Constant coefficients make a built-in integral; others are evaluated for every design."""
    term = FormBilinear(domain, found, parameters)
    if found.reads:
        return term
    (integral,) = term.integrals(np.zeros((0, domain.dim)))
    assert isinstance(integral, BilinearIntegral)
    return integral
