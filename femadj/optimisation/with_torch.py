"""A reduced problem as a function of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from femadj.base.optional import library
from femadj.errors import ProblemError, SecondOrderError
from femadj.optimisation.reduced import Reduced
from femadj.optimisation.told import require_reduced, slopes_at, values_at


def torch_function(reduced: Reduced) -> Callable[[Any], Any]:
    """Objective and constraints of a reduced problem as a function of PyTorch, with exact derivatives for ``backward``.

    The function takes the variables of the parametrisation, a tensor ``(n,)`` in double precision on the processor, and
    gives the responses as they are, ``(1 + m,)``. Second derivatives are refused.

    A design without an answer (tangled, singular, not converged) has infinite values, and derivatives that are not a
    number: take a smaller step from the last point, as ``torch.optim.LBFGS`` with ``strong_wolfe`` does. Other errors
    come out as they are.

    Parameters
    ----------
    reduced : Reduced

    Raises
    ------
    MissingExtraError
        When PyTorch is not installed.
    ProblemError
        When the function is called with a tensor in single precision, on a device, or of another shape.
    """
    require_reduced(reduced)
    torch = library("torch", "torch", "torch_function")

    class Responses(torch.autograd.Function):  # type: ignore[name-defined]
        """Values forward, their derivatives backward."""

        @staticmethod
        def forward(ctx: Any, variables: Any) -> Any:
            """Solve where the variables are; derivatives at once, on the same factor."""
            q = variables.detach().numpy()
            values = torch.from_numpy(values_at(reduced, q))
            ctx.save_for_backward(torch.from_numpy(slopes_at(reduced, q)))
            return values

        @staticmethod
        def backward(ctx: Any, cotangent: Any) -> Any:
            """Sum of the derivatives; these have none, which autograd would take for zero."""
            if torch.is_grad_enabled():
                raise SecondOrderError(
                    "torch_function has no second derivatives (create_graph=True): reduced.hessian_product has them"
                )
            return cotangent @ ctx.saved_tensors[0]

    def responses(variables: Any) -> Any:
        if not isinstance(variables, torch.Tensor):
            raise ProblemError(f"variables must be a tensor, not {type(variables).__name__}")
        if variables.dtype != torch.float64 or variables.device.type != "cpu" or variables.shape != (reduced.n,):
            raise ProblemError(
                f"variables must be a tensor ({reduced.n},) of float64 on the processor, not {variables.dtype} "
                f"of shape {tuple(variables.shape)} on {variables.device}: .to('cpu', torch.float64)"
            )
        if torch.is_grad_enabled() and variables.requires_grad:
            return Responses.apply(variables)
        return torch.from_numpy(values_at(reduced, variables.detach().numpy()))

    return responses
