"""Automatic differentiation of integrands by JAX: one reverse sweep gives the derivatives by everything that is read.

The integrand is evaluated at one quadrature point and mapped over all of them, so that every array in it has the shape
``(..., 1, 1)``, constants have no dimension, and no value can depend on another point. At a few points it is evaluated
once more, all of them together and not compiled: a function that reduces over points means something else with NumPy
and is refused, and one that refers to something that has changed since it was compiled is compiled anew. Arrays are
double precision whatever the global setting of JAX is.

This module needs JAX and is imported by ``differentiable`` alone.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from femadj.base.arrays import FloatArray
from femadj.base.calls import ONE_POINT, differs, key_of, samples
from femadj.base.complex_step import STEP, derivative, real_part
from femadj.errors import FormError
from femadj.forms.integrand import AnyArray, Environment, Field, Integrand
from femadj.forms.pointwise import Quadrature, Slots, add_normal, add_size, add_transport
from femadj.forms.sampling import Picked, require_differentiable
from femadj.forms.slopes import PointSlopes

CHECKED = 32
"""Points at which compiled code is compared with the function itself and with differences."""

Leaves = dict[str, dict[str, Any]]
"""By kind: ``values``, ``gradients``, ``div`` and ``curl`` of fields, and ``numbers``; each by name. Arguments have
their numbers (as text) for names, which no parameter can have."""


class JaxField:
    """Value and gradient of a field as JAX arrays; an array itself in expressions and in functions of ``jax.numpy``.

    Attributes
    ----------
    value : array
        Needed by name in ``jax.lax`` only.
    """

    __array_priority__ = 1000.0  # operators of NumPy's arrays leave the work to those below
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        value: Any,
        gradient: Any = None,
        on_read: Callable[[], None] | None = None,
        *,
        div: Any = None,
        curl: Any = None,
    ) -> None:
        self.value = value
        self._gradient = gradient
        self._on_read = on_read
        self.div, self.curl = div, curl

    @property
    def grad(self) -> Any:
        """Derivatives, the last component index being that of the coordinate."""
        if self._on_read is not None:
            self._on_read()
        return self._gradient

    def __jax_array__(self) -> Any:
        return self.value

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise _numpy_was_called()

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Any:
        return iter(self.value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "value":
            raise AttributeError(name)
        return getattr(self.value, name)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __float__(self) -> float:
        return float(self.value)


def _plain(a: Any) -> Any:
    return a.value if isinstance(a, JaxField) else a


def _install_operators() -> None:
    def two(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda self, other: function(self.value, _plain(other))

    def swapped(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        return lambda self, other: function(_plain(other), self.value)

    def one(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda self: function(self.value)

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul"):
        function = getattr(operator, name)
        setattr(JaxField, f"__{name}__", two(function))
        setattr(JaxField, f"__r{name}__", swapped(function))
    for name in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(JaxField, f"__{name}__", two(getattr(operator, name)))
    for name in ("neg", "pos", "abs"):
        setattr(JaxField, f"__{name}__", one(getattr(operator, name)))


_install_operators()
# functions of jax.numpy are compiled ones, which take the arrays apart and put them together again
jax.tree_util.register_pytree_node(
    JaxField,
    lambda field: ((field.value, field._gradient, field.div, field.curl), field._on_read),
    lambda on_read, children: JaxField(children[0], children[1], on_read, div=children[2], curl=children[3]),
)


def _numpy_was_called() -> FormError:
    return FormError(
        "it calls a function of NumPy on its arguments, which JAX cannot differentiate: with differentiation='jax' use "
        "jax.numpy, and skfem.autodiff.helpers in place of skfem.helpers"
    )


def _double() -> AbstractContextManager[Any]:
    """Context in which JAX computes in double precision, in this thread."""
    context = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    found: AbstractContextManager[Any] = context(True)
    return found


class Automatic:
    """An integrand that JAX differentiates; compiled once for every shape of its arguments.

    Parameters
    ----------
    original : Integrand
        Written with ``jax.numpy``, or with nothing but operators.

    Attributes
    ----------
    integrand : Integrand
        On NumPy arrays; it returns the derivative by automatic differentiation where an argument carries a complex
        step.
    """

    checks_itself = True  # other points are other shapes, which would have to be compiled

    def __init__(self, original: Integrand) -> None:
        self._original = original
        self.integrand = Integrand(self._on_arrays, original.name)
        self._compile()

    def _compile(self) -> None:
        """Forget what has been compiled, with the values that were in it."""

        def sweep(where: str, leaves: Leaves) -> Any:
            point = jax.value_and_grad(partial(self._at_point, where), has_aux=True)
            return jax.vmap(point, in_axes=-1, out_axes=((0, 0), -1))(leaves)

        self._sweep = jax.jit(sweep, static_argnums=0)

    def slopes(
        self, quadrature: Quadrature, arguments: Sequence[Slots], slots: Sequence[range], reads: set[str]
    ) -> PointSlopes:
        """Value and derivatives."""
        shape, dim, at = quadrature.shape, quadrature.domain.dim, quadrature.frame
        w = quadrature.environment()
        leaves = _no_leaves()
        for number, (argument, here) in enumerate(zip(arguments, slots, strict=True)):
            _insert(leaves, str(number), argument.field, shape, gradient=here.stop > 1)
        for name in reads & set(w.names):
            _insert(leaves, name, w.peek(name), shape, gradient=f"{name}.grad" in reads)
        found: Leaves = {}

        def swept(w: Environment) -> FloatArray:
            nonlocal found
            values, found, _ = self._swept(w.where, leaves, shape)
            finite = [np.isfinite(a).all(axis=tuple(range(a.ndim - 2))) for d in found.values() for a in d.values()]
            return np.where(np.logical_and.reduce(finite), values, np.nan)

        value = Integrand(swept, self._original.name)([], w, shape)
        if not quadrature.moving:  # then it has been looked at before
            value = real_part(value)
            places = samples(value.size, key_of(value)).choice(value.size, min(value.size, CHECKED), replace=False)
            if self._outdated(w.where, leaves, value.ravel(), places):
                self._compile()
                value = real_part(Integrand(swept, self._original.name)([], w, shape))
            picked = Picked.of(quadrature, places)
            local = [picked.slots(argument) for argument in arguments]
            require_differentiable(picked, self.integrand, local, reads, by_arguments=True, both_sides=True)

        def of_slots(name: str, nc: int, here: range) -> FloatArray:
            result: AnyArray = np.empty((nc, len(here), *shape), dtype=quadrature.dtype)
            by_value = found["values"][name].reshape(nc, *shape)
            by_gradient = found["gradients"][name].reshape(nc, dim, *shape) if here.stop > 1 else None
            for k, slot in enumerate(here):
                result[:, k] = by_value if slot == 0 or by_gradient is None else by_gradient[:, slot - 1]
            return result

        def of_part(name: str, argument: Slots, here: range) -> FloatArray:
            if argument.gradient.size:
                return of_slots(name, len(argument.value), here)
            rows = [found[kind][name].reshape(-1, *shape) for kind in ("values", "div", "curl") if name in found[kind]]
            return np.concatenate(rows)[:, None]  # all slots of an H(div) or H(curl) field

        by_arguments = [
            of_part(str(number), argument, here)
            for number, (argument, here) in enumerate(zip(arguments, slots, strict=True))
        ]
        force: AnyArray = np.zeros((dim, dim + 1, *shape), dtype=quadrature.dtype)
        if "x" in reads:
            force[:, 0] = found["values"]["x"]
        if "n" in reads:
            add_normal(force, at.normal, found["values"]["n"])
        if "h" in reads:
            add_size(force, at, found["values"]["h"])
        by_parameters = {}
        for name, entry in quadrature.parameters.entries.items():
            if name not in reads:
                continue
            if entry.kind == "nodal":
                _, gradient = quadrature.nodal(name)
                top = dim + 1 if f"{name}.grad" in reads else 1
                by_parameters[name] = of_slots(name, len(gradient), range(top))
                if top > 1:
                    add_transport(force, gradient, by_parameters[name][:, 1:])
            else:
                by_parameters[name] = found["numbers" if name in found["numbers"] else "values"][name]
        return PointSlopes(value, tuple(by_arguments), force, by_parameters)

    def _outdated(self, where: str, leaves: Leaves, value: FloatArray, places: npt.NDArray[np.int64]) -> bool:
        """Whether compiled code gives other values than the function now; FormError for one that mixes points."""
        few = jax.tree_util.tree_map(lambda a: a[..., places], leaves)
        with _double():
            some = jax.tree_util.tree_map(jnp.asarray, few)
            try:
                together = self._together(where, some)
            except Exception:  # it is not made for several points: that is no fault
                together = None
            if together is not None and not differs(together, value[places]).any():
                return False
            one_by_one = jax.vmap(lambda at: self._at_point(where, at)[0], in_axes=-1)(some)
        if differs(np.asarray(one_by_one), value[places]).any():
            return True
        if together is not None:
            raise FormError(
                f"form {self._original.name!r} mixes points: JAX evaluates it point by point, where a reduction over "
                f"points has nothing to reduce; {ONE_POINT}"
            )
        return False

    def _together(self, where: str, leaves: Leaves) -> FloatArray | None:
        """The function at several points at once, as arrays ``(..., k, 1)``; None where it returns something else."""
        fields: dict[str, Any] = {name: array[0] for name, array in leaves["numbers"].items()}
        for name, array in leaves["values"].items():
            rest = (leaves[kind].get(name) for kind in ("gradients", "div", "curl"))
            gradient, div, curl = (None if a is None else a[..., None] for a in rest)
            fields[name] = JaxField(array[..., None], gradient, div=div, curl=curl)
        arguments = [fields[name] for name in sorted((n for n in fields if n.isdigit()), key=int)]
        w = Environment({name: partial(fields.__getitem__, name) for name in fields if not name.isdigit()}, {}, where)
        result = np.asarray(_plain(self._original.function(*arguments, w)))
        k = next(iter(leaves["values"].values())).shape[-1]
        return np.broadcast_to(result, (k, 1))[:, 0] if result.ndim <= 2 else None

    def _on_arrays(self, *given: Any) -> AnyArray:
        """The integrand on NumPy arrays, with the derivative along complex steps for imaginary part."""
        *arguments, w = given
        shape = _points_of(arguments, w)
        whole = _no_leaves()
        fields = {str(number): field for number, field in enumerate(arguments)}
        fields |= {name: w.peek(name) for name in w.names}
        for name, field in fields.items():
            _insert(whole, name, field, shape)
        leaves = jax.tree_util.tree_map(real_part, whole)
        steps = jax.tree_util.tree_map(lambda a: derivative(a) if np.iscomplexobj(a) else None, whole)
        pairs = [(kind, name, step) for kind, d in steps.items() for name, step in d.items() if step is not None]
        values, slopes, reads = self._swept(w.where, leaves, shape)
        if pairs:
            along = np.zeros(shape)
            for kind, name, step in pairs:
                along += (slopes[kind][name] * step.reshape(slopes[kind][name].shape)).reshape(-1, *shape).sum(axis=0)
            values = values + 1j * STEP * along
        for name in reads:
            if name in fields:
                w.reads.add(name)
            else:
                fields[name.removesuffix(".grad")].grad  # noqa: B018  (counts as read)
        return values

    def _swept(
        self, where: str, leaves: Leaves, shape: tuple[int, ...]
    ) -> tuple[FloatArray, Leaves, Mapping[str, Any]]:
        """Values, derivatives and names of what is read; of complex leaves, which carry a step, with their rates."""
        with _double():
            if any(map(np.iscomplexobj, jax.tree_util.tree_leaves(leaves))):
                values, slopes, reads = self._swept_along(where, leaves)
            else:
                (values, reads), slopes = self._sweep(where, leaves)
        by_leaf = jax.tree_util.tree_map(lambda a: np.asarray(a).reshape(*a.shape[:-1], *shape), slopes)
        return np.asarray(values).reshape(shape), by_leaf, reads

    def _swept_along(self, where: str, leaves: Leaves) -> tuple[Any, Any, Mapping[str, Any]]:
        """Values and derivatives with their rates along complex steps: forward over reverse."""

        def both(leaves: Leaves) -> Any:
            (values, reads), slopes = self._sweep(where, leaves)
            return (values, slopes), reads

        at, along = (jax.tree_util.tree_map(part, leaves) for part in (real_part, derivative))
        found, rates, reads = jax.jvp(both, (at,), (along,), has_aux=True)
        moved = jax.tree_util.tree_map(lambda a, rate: np.asarray(a) + 1j * STEP * np.asarray(rate), found, rates)
        return *moved, reads

    def _at_point(self, where: str, leaves: Leaves) -> tuple[Any, dict[str, None]]:
        """The integrand at one point, and what it reads: names without values, a result that compiled code keeps."""
        gradient_reads: dict[str, None] = {}

        def field(name: str) -> Any:
            if name in leaves["numbers"]:
                return leaves["numbers"][name]
            gradient = leaves["gradients"].get(name)
            return JaxField(
                leaves["values"][name][..., None, None],
                None if gradient is None else gradient[..., None, None],
                None if gradient is None else lambda: gradient_reads.setdefault(f"{name}.grad"),
                **{kind: leaves[kind][name][..., None, None] for kind in ("div", "curl") if name in leaves[kind]},
            )

        names = sorted(set(leaves["values"]) | set(leaves["numbers"]))
        arguments = [field(name) for name in sorted((n for n in names if n.isdigit()), key=int)]
        w = Environment({name: partial(field, name) for name in names if not name.isdigit()}, {}, where)
        try:
            result = _plain(self._original.function(*arguments, w))
            result = jnp.asarray(result)
        except jax.errors.TracerArrayConversionError:
            raise _numpy_was_called() from None
        except jax.errors.ConcretizationTypeError:
            raise FormError(
                "it asks for the value of an argument (by if, while, float or as an index), which JAX does not know "
                "while it differentiates: use jax.numpy.where"
            ) from None
        except (TypeError, ValueError, DeprecationWarning) as error:  # what older versions raise or warn of, too
            if "__jax_array__" in str(error) or "not a valid JAX type" in str(error):
                raise FormError(
                    "it gives a field to a function that takes JAX arrays only: give its value, w.u.value for w.u"
                ) from None
            raise
        if result.ndim > 2 or result.size != 1:
            raise FormError(
                f"it must return one number at every quadrature point, shape (1, 1) for JAX, not {result.shape}: "
                "are all indices contracted, and are all arrays made of the arguments?"
            )
        if result.dtype.kind not in "fiub" or result.dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
            raise FormError(f"it must return real numbers in double precision, not {result.dtype}")
        known = {name: None for name in w.reads if name in names}
        return result.reshape(()).astype(jnp.float64), {**known, **gradient_reads}


def _points_of(arguments: Sequence[Any], w: Environment) -> tuple[int, ...]:
    """``(m, nq)``, from the fields."""
    fields = [*arguments, *(w.peek(name) for name in w.names)]
    return np.broadcast_shapes(*(np.shape(f)[-2:] for f in fields if np.ndim(f) >= 2))


def _insert(leaves: Leaves, name: str, field: Any, shape: tuple[int, ...], gradient: bool = True) -> None:
    """Add a field or number to the leaves, all quadrature points in the last axis."""

    def flat(a: Any) -> AnyArray:
        raw = np.asarray(a).view(np.ndarray)
        return np.broadcast_to(raw, (*raw.shape[:-2], *shape)).reshape(*raw.shape[:-2], -1)

    if np.ndim(field) == 0:
        leaves["numbers"][name] = flat(field)
        return
    leaves["values"][name] = flat(field)
    slope = field.peek_gradient() if isinstance(field, Field) else getattr(field, "grad", None)
    if gradient and slope is not None:
        leaves["gradients"][name] = flat(slope)
    for kind in ("div", "curl"):
        slope = getattr(field, kind, None)
        if slope is not None:
            leaves[kind][name] = flat(slope)


def _no_leaves() -> Leaves:
    return {kind: {} for kind in ("values", "gradients", "div", "curl", "numbers")}
