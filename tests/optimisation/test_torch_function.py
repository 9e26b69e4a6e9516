"""A reduced problem as a function of PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import femadj as fa
from tests.optimisation.cantilever import Both, cantilever, compliance

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'femadj[torch]'")

Q = (0.05, 0.1, -0.1)
TANGLED = (0.0, 5.0, -5.0)


def tensor(values: Any = Q, **options: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True, **options)


def test_values_and_gradients() -> None:
    run = cantilever()
    f, q = fa.torch_function(run), tensor()
    values = f(q)
    np.testing.assert_allclose(values.detach().numpy(), compliance(np.array(Q)), rtol=1e-12)
    (values[0] ** 2 + torch.sin(values[1])).backward()
    assert run.counts.factorisations == run.counts.solves == 1
    slopes = run.evaluate(np.array(Q) / run.scales).gradients / run.scales
    c, v = compliance(np.array(Q))
    np.testing.assert_allclose(q.grad.numpy(), 2 * c * slopes[0] + np.cos(v) * slopes[1], rtol=1e-12)
    assert torch.autograd.gradcheck(f, (tensor(),), eps=1e-5, atol=1e-7, rtol=1e-6)


def test_derivatives_of_two_designs_take_two_factorisations() -> None:
    run = cantilever()
    f, one, other = fa.torch_function(run), tensor(), tensor((0.1, 0.0, 0.1))
    (f(one) * f(other)).sum().backward()
    assert run.counts.factorisations == run.counts.solves == 2
    with torch.no_grad():
        f(tensor((0.2, 0.0, 0.1)))
    assert run.counts.gradients == 2  # only where they are asked for


def test_a_tangled_design_has_infinite_values_and_no_derivatives() -> None:
    q = tensor(TANGLED)
    value = fa.torch_function(cantilever())(q)[0]
    value.backward()
    assert value == np.inf
    assert torch.isnan(q.grad).all()


def test_descent_with_torch_and_five_lines() -> None:
    run = cantilever(objective=Both(10.0), constraints=(), scale=1.0)
    f, q = fa.torch_function(run), tensor((0.0, 0.0, 0.0))
    optimiser = torch.optim.LBFGS([q], lr=60.0, max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        loss = f(q)[0]
        loss.backward()
        return loss

    optimiser.step(closure)
    assert run.history.records[1].failure is not None
    exact = fa.minimise_scipy(cantilever(objective=Both(10.0), constraints=()), "L-BFGS-B")
    assert f(q)[0].item() == pytest.approx(exact.values[0], rel=1e-5)


def test_errors_and_interrupts_come_out() -> None:
    for error in (ValueError("here"), KeyboardInterrupt()):

        def raise_it(design: fa.Evaluated, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as found:
            fa.torch_function(cantilever(on_design=raise_it))(tensor())
        assert found.value is error


def test_second_derivatives_are_refused() -> None:
    q = tensor()
    value = fa.torch_function(cantilever())(q)[0]
    with pytest.raises(fa.SecondOrderError, match="create_graph"):
        torch.autograd.grad(value, q, create_graph=True)


def test_what_does_not_fit_is_refused() -> None:
    f = fa.torch_function(cantilever())
    with pytest.raises(fa.ProblemError, match=r"float64 on the processor, not torch.float32 of shape \(3,\) on cpu"):
        f(torch.zeros(3))
    with pytest.raises(fa.ProblemError, match=r"of shape \(2,\)"):
        f(tensor((0.0, 0.0)))
    with pytest.raises(fa.ProblemError, match="must be a tensor, not ndarray"):
        f(np.zeros(3))
    with pytest.raises(fa.ProblemError, match="must be a Reduced problem"):
        fa.torch_function(None)  # type: ignore[arg-type]
