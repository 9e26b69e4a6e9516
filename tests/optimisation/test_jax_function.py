"""A reduced problem as a function of JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.optimisation.cantilever import cantilever, compliance, volume

jax = pytest.importorskip("jax", reason="JAX is not installed: pip install 'femadj[jax]'")

Q = np.array([0.05, 0.1, -0.1])
TANGLED = np.array([0.0, 5.0, -5.0])


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def loss(f: Any) -> Any:
    return lambda q: f(q)[0] ** 2 + jax.numpy.sin(f(q)[1]) + q @ q


def difference(f: Any, q: Any, h: float = 1e-3) -> Any:
    """Of sixth order."""
    return np.array([
        sum(w * (f(q + k * h * e) - f(q - k * h * e)) for k, w in ((1, 45), (2, -9), (3, 1))) / (60 * h)
        for e in np.eye(len(q))
    ])  # fmt: skip


def plain(q: Any) -> float:
    c, v = compliance(q)
    return float(c**2 + np.sin(v) + q @ q)


def test_values_and_gradients_within_jit() -> None:
    run = cantilever()
    f = fa.jax_function(run)
    np.testing.assert_allclose(f(Q), compliance(Q), rtol=1e-12)
    np.testing.assert_allclose(jax.jit(f)(Q), compliance(Q), rtol=1e-12)
    expected = difference(plain, Q)
    for way in (jax.grad(loss(f)), jax.jit(jax.grad(loss(f)))):
        np.testing.assert_allclose(way(Q), expected, rtol=1e-7)
    assert run.counts.factorisations == run.counts.solves == len(run.history) == 1


def test_several_designs_one_after_the_other() -> None:
    run = cantilever()
    f = fa.jax_function(run)
    several = np.stack([Q, -Q, 0.5 * Q])
    np.testing.assert_allclose(jax.vmap(f)(several), [compliance(q) for q in several], rtol=1e-12)
    slopes = jax.jit(jax.vmap(jax.grad(loss(f))))(0.9 * several)
    np.testing.assert_allclose(slopes, [jax.grad(loss(f))(q) for q in 0.9 * several], rtol=1e-12)
    assert run.counts.factorisations == run.counts.solves == len(run.history) == 6


def test_a_tangled_design_has_infinite_values_and_no_derivatives() -> None:
    f = fa.jax_function(cantilever())
    for way in (lambda g: g, jax.jit):
        value, slope = way(jax.value_and_grad(lambda q: f(q)[0]))(TANGLED)
        assert value == np.inf
        assert np.isnan(slope).all()


def test_descent_with_jax_and_five_lines() -> None:
    run = cantilever()
    f, q, step = fa.jax_function(run), jax.numpy.zeros(3), 10.0
    descend = jax.jit(jax.value_and_grad(lambda q: f(q) @ jax.numpy.array([1.0, 10.0])))
    for _ in range(30):
        value, slope = descend(q)
        while not descend(q - step * slope)[0] < value:
            step /= 4
        q, step = q - step * slope, 1.5 * step
    assert run.history.records[1].failure is not None
    assert descend(q)[0] < 20.0  # 19.92 is the least, 23 at the start


def test_errors_and_interrupts_come_out() -> None:
    for error in (ValueError("here"), KeyboardInterrupt()):

        def raise_it(design: fa.Evaluated, error: BaseException = error) -> None:
            raise error

        for way in (lambda g: g, jax.grad):
            f = fa.jax_function(cantilever(on_design=raise_it))
            with pytest.raises(type(error)) as found:
                way(lambda q, f=f: f(q)[0])(Q)
            assert found.value is error
        with pytest.raises(Exception, match=type(error).__name__):  # in JAX's words
            jax.jit(fa.jax_function(cantilever(on_design=raise_it)))(Q).block_until_ready()


def test_what_has_no_derivative_is_refused() -> None:
    f = fa.jax_function(cantilever())
    with pytest.raises(ValueError, match="do not support JVP"):
        jax.hessian(lambda q: f(q)[0])(Q)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(f, (Q,), (Q,))


def test_what_does_not_fit_is_refused() -> None:
    run = cantilever()
    f = fa.jax_function(run)
    with pytest.raises(fa.ProblemError, match=r"must be an array \(3,\) in double precision"):
        f(np.zeros(2))
    with pytest.raises(fa.ProblemError, match="jax_enable_x64"):
        jax.jit(f)(Q.astype(np.float32))
    with pytest.raises(fa.ProblemError, match="must be a Reduced problem"):
        fa.jax_function(volume())  # type: ignore[arg-type]
