"""Advection and diffusion of a scalar by a given flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import flag, real_array
from femadj.base.arrays import FloatArray
from femadj.errors import MaterialError
from femadj.mesh import Mesh
from femadj.physics.base import Body, BoundPhysics, NullModes, finite, for_each, positive
from femadj.physics.diffusion import alike, checked_conductivity
from femadj.physics.form import Form, Integral
from femadj.physics.material import Regional, item_shape, value_of_cell
from femadj.space.discretisation import Discretisation
from femadj.space.parameters import CellField, NodalField, ParameterLike, Parameters

Velocity = npt.ArrayLike | NodalField | CellField | Callable[[Any], Any]
"""A vector, a field of vectors by nodes or by cells, or a function of ``x`` ``(dim, n)`` that returns components."""


class AdvectionDiffusion(Body):
    """Steady transport of a scalar, ``int v b . grad u + grad v . (k grad u)``.

    The matrix is not symmetric; adjoint states solve the transposed system on the same factor.

    Parameters
    ----------
    conductivity : number, (dim, dim) array, mapping of cell group to either, or CellField of numbers
        ``k``, positive (definite): the parameter ``"conductivity"``.
    velocity : (dim,), NodalField, CellField or function of x
        ``b``, times the capacity in heat transport. Unless it is a function it is the parameter ``"velocity"``.
    supg : bool
        Streamline-upwind Petrov-Galerkin stabilisation: adds ``int tau (b . grad v)(b . grad u - s)`` with
        ``tau = ((2 |b| / h)^2 + (12 k / h^2)^2)^(-1/2)`` (F. Shakib, T. J. R. Hughes, Z. Johan, Comput. Methods Appl.
        Mech. Eng. 89 (1991)), ``h = |det J|^(1/dim)`` and ``k`` the mean of the principal conductivities. The second
        derivatives of the residual are left out; they vanish on linear triangles and tetrahedra.
    source : number or function of x, optional
        ``s``, per current volume. With ``supg`` give it here and not as the load ``Source``: the test functions of the
        source are stabilised too.
    thickness : float
        Of a plane body.
    density : number or mapping, optional
        Mass per volume, for the response ``Mass``.

    Raises
    ------
    MaterialError
        A conductivity that is not positive, a velocity that is not finite or has the wrong number of components.
    """

    def __init__(
        self,
        conductivity: Regional,
        velocity: Velocity,
        *,
        supg: bool = False,
        source: float | Callable[[Any], Any] | None = None,
        thickness: float = 1.0,
        density: Regional | None = None,
    ) -> None:
        for_each(conductivity, checked_conductivity, "conductivity")
        if density is not None:
            for_each(density, positive, "density")
        positive(thickness, "thickness")
        self._velocity: Velocity = velocity
        if not callable(velocity) and not isinstance(velocity, (NodalField, CellField)):
            vector = _vector(velocity)
            self._velocity = vector
        if source is not None and not callable(source):
            finite(source, "source")
        self._conductivity = alike(conductivity)
        flag(supg, "supg", MaterialError)
        self._supg = bool(supg)
        self._source = source
        self.thickness = float(thickness)
        self.density = density

    @property
    def constants(self) -> Mapping[str, Regional]:
        """Constants of the material by name, without the thickness."""
        return {"conductivity": self._conductivity, **super().constants}

    @property
    def parameters(self) -> Mapping[str, ParameterLike]:
        """``"conductivity"``, ``"velocity"`` (unless a function), ``"density"`` (where given)."""
        velocity = {} if callable(self._velocity) else {"velocity": self._velocity}
        return {**super().parameters, **velocity}

    @property
    def quantity(self) -> Literal["scalar"]:
        """The unknown is a scalar."""
        return "scalar"

    def components(self, dim: int) -> tuple[str, ...]:
        """The one component."""
        return ("u",)

    def null_modes(self, points: FloatArray) -> NullModes:
        """The constant."""
        return NullModes(("constant value",), np.ones((1, len(points), 1)))

    def form(self, mesh: Mesh) -> Form:
        """The forms of the physics on a mesh."""
        dim = mesh.dim
        self._check_velocity(mesh)
        value_of_cell(mesh, self._conductivity, "conductivity")  # every cell once
        shape = item_shape(self._conductivity)
        if shape and shape != (dim, dim):
            raise MaterialError(f"conductivity must be a number or {(dim, dim)}, not {shape}")
        bilinear: list[Integral] = []
        linear: list[Integral] = []
        groups = list(self._conductivity) if isinstance(self._conductivity, Mapping) else [None]
        for number, group in enumerate(groups):
            terms = _Terms(None if group is None else number, shape, self._velocity, self._source, dim, self._supg)
            bilinear.append(Integral(terms.advection_diffusion, group, over="cells", name="advection-diffusion"))
            if self._source is not None:
                linear.append(Integral(terms.source_term, group, over="cells", name="source"))
        return Form(bilinear, linear, parameters=self.parameters_on(mesh))

    def discretise(self, mesh: Mesh, threads: int | None) -> Discretisation:
        """An isoparametric field."""
        return Discretisation.of(mesh, 1, threads)

    def bind(self, space: Discretisation, parameters: Parameters, order: int | None) -> BoundPhysics:
        """Its terms on a discretisation."""
        return self.form(space.mesh).bind(space, parameters, order)

    def explain(self, mesh: Mesh) -> str:
        """What its forms are made of."""
        return self.form(mesh).explain(mesh)

    def _check_velocity(self, mesh: Mesh) -> None:
        if callable(self._velocity):
            return
        entry = Parameters.of(mesh, {"velocity": self._velocity}, "AdvectionDiffusion").entries["velocity"]
        if entry.item_shape != (mesh.dim,):
            raise MaterialError(f"velocity must have {mesh.dim} components on this mesh, not shape {entry.item_shape}")

    def __repr__(self) -> str:
        extra = ", supg=True" if self._supg else ""
        return f"AdvectionDiffusion({self._conductivity!r}, {self._velocity!r}{extra})"


class _Terms:
    """The integrands, with what they have of constants."""

    def __init__(
        self, number: int | None, shape: tuple[int, ...], velocity: Velocity, source: Any, dim: int, supg: bool
    ) -> None:
        self.number, self.shape, self.velocity, self.source, self.dim, self.supg = (
            number, shape, velocity, source, dim, supg,
        )  # fmt: skip

    def _conductivity(self, w: Any) -> Any:
        """The value of this group."""
        k = w.conductivity if self.number is None else w.conductivity[self.number]
        if not self.shape and not np.all(k > 0):
            raise MaterialError("the parameter 'conductivity' must be positive")
        return k

    def _flow(self, w: Any) -> list[Any]:
        """Components of the velocity at the points."""
        if not callable(self.velocity):
            b = w.velocity
            return [b[i] for i in range(self.dim)]
        found = _at(self.velocity, w.x)
        count = len(found) if isinstance(found, list) or np.ndim(found) else 1
        if count != self.dim:
            raise MaterialError(f"the velocity must return {self.dim} components, not {count}")
        return list(found)

    def _flux(self, w: Any, gradient: Any) -> list[Any]:
        k = self._conductivity(w)
        if not self.shape:
            return [k * gradient[i] for i in range(self.dim)]
        return [sum(k[i, j] * gradient[j] for j in range(self.dim)) for i in range(self.dim)]

    def _tau(self, w: Any, b: list[Any]) -> Any:
        k = self._conductivity(w)
        if self.shape:
            k = sum(k[i, i] for i in range(self.dim)) / self.dim
        speed = sum(c * c for c in b)
        return 1.0 / np.sqrt(4.0 * speed / w.h**2 + (12.0 * k / w.h**2) ** 2)

    def _scaled(self, w: Any, value: Any) -> Any:
        return w.thickness * value if self.dim == 2 else value

    def advection_diffusion(self, u: Any, v: Any, w: Any) -> Any:
        """``v b . grad u + grad v . (k grad u)``, stabilised where asked for."""
        b = self._flow(w)
        flux = self._flux(w, u.grad)
        transport = sum(b[i] * u.grad[i] for i in range(self.dim))
        result = v * transport + sum(v.grad[i] * flux[i] for i in range(self.dim))
        if self.supg:
            result = result + self._tau(w, b) * sum(b[i] * v.grad[i] for i in range(self.dim)) * transport
        return self._scaled(w, result)

    def source_term(self, v: Any, w: Any) -> Any:
        """``s v``, stabilised where asked for."""
        s = _at(self.source, w.x) if callable(self.source) else self.source
        test = 1.0 * v
        if self.supg:
            b = self._flow(w)
            test = test + self._tau(w, b) * sum(b[i] * v.grad[i] for i in range(self.dim))
        return self._scaled(w, s * test)


def _at(function: Callable[[Any], Any], x: Any) -> Any:
    """Call a function of ``x`` ``(dim, n)`` on coordinates ``(dim, m, nq)``."""
    shape = x.shape[1:]
    n = int(np.prod(shape))
    found = function(np.reshape(x[:], (x.shape[0], n)))
    constants = not isinstance(found, (list, tuple)) and np.shape(found) == (x.shape[0],) != (n,)
    if constants or isinstance(found, (list, tuple)):
        return [np.broadcast_to(c, (n,)).reshape(shape) for c in found]
    return np.reshape(found, (*np.shape(found)[:-1], *shape)) if np.ndim(found) else found


def _vector(value: Any) -> FloatArray:
    array = real_array(value, "velocity", MaterialError, "a vector, a field or a function of x")
    if array.ndim != 1 or not np.isfinite(array).all():
        raise MaterialError(f"velocity must be a finite vector, not {value!r}")
    return array
