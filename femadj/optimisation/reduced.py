"""A problem and its responses as functions of design variables, for any optimiser; no design is solved twice."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import notified, real_array
from femadj.base.arrays import FloatArray
from femadj.base.display import shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import ParametrisationError, ProblemError, QualityWarning
from femadj.optimisation.constraint import Constraint, Objective, constraints_of, limits_of, objective_of
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.failures import FAILURES, forgetful, require_finite
from femadj.optimisation.history import History, Memory, Record, key_of
from femadj.optimisation.identity import parts_of, probe, require_same
from femadj.optimisation.model import Solved
from femadj.optimisation.parametrisation import Parametrisation
from femadj.optimisation.run_folder import earlier_run, new_run
from femadj.progress import Progress
from femadj.responses.base import AnyResponse
from femadj.solvers.closing import Closing

FEASIBLE = 1e-6
"""By how much a constraint may be missed, in its scale, by a design that counts as within all limits."""


@dataclass(frozen=True)
class RunCounts:
    """What a run has taken in this process; ``designs`` are all in its history.

    Attributes
    ----------
    designs : int
    solves : int
        Of the problem: one for each new design, and one for each that was asked for its gradients too late.
    gradients : int
        Blocks of gradients.
    analyses, factorisations : int
        Of the problem.
    """

    designs: int
    solves: int
    gradients: int
    analyses: int
    factorisations: int


class Reduced(HoldsSolver, Closing):
    """Objective and constraints as functions of design variables.

    Optimisers see scaled variables ``z``, with ``q = scales * z`` those of the parametrisation; objective and
    constraints in the scale of each (``Objective``, ``Constraint``). ``value``, ``gradient``, ``constraint_values`` and
    ``jacobian`` may be asked for in any order: a design is solved when something of it is asked for the first time, its
    gradients are computed when one of them is. Values of all designs are kept.

    A design without an answer (tangled, singular, not converged) never raises here: ``evaluate(z).failure`` says why;
    its value is infinite, constraints are violated infinitely, and derivatives are zero.

    Parameters
    ----------
    problem : LinearStatic, NonlinearStatic, Modal, Buckling, Transient, Chain, or one's own
        ``problem.solve(points)`` gives a solution that responses can be evaluated on.
    parametrisation : Parametrisation
        Made for the mesh of the problem.
    objective : Response, OnStage, Objective or Maximised
        A bare response is minimised.
    constraints : sequence of Constraint
        ``AtMost``, ``AtLeast``, ``Equal``, ``Between``.
    folder : path, optional
        Where the run is kept while it goes on, new or without a run; ``Reduced.resume`` takes it up again.
    quality_limit : float
        A ``QualityWarning`` is given when the smallest scaled Jacobian of all cells falls below it.
    on_design : callable of Evaluated, optional
        Called after every new design; what it raises ends the run.
    bounds : (lower, upper), optional
        Of ``q``, numbers or ``(n,)``, in place of those of the parametrisation.
    scales : float or (n,), optional
        Sizes of the variables, positive; 1 when left out.
    progress : Progress, optional
        Notified of every new design; that of the problem when left out.

    Raises
    ------
    FemadjError
        For what does not fit together, before anything is solved.
    """

    def __init__(
        self,
        problem: Any,
        parametrisation: Parametrisation,
        objective: AnyResponse | Objective,
        constraints: Sequence[Constraint] = (),
        *,
        folder: str | os.PathLike[str] | None = None,
        quality_limit: float = 0.1,
        on_design: Callable[[Evaluated], object] | None = None,
        bounds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        scales: npt.ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> None:
        _require_fitting(problem, parametrisation)
        notified(progress, ProblemError)
        self._problem, self._parametrisation = problem, parametrisation
        self._objective, self._constraints = objective_of(objective), constraints_of(constraints)
        self._responses = (self._objective.response, *(each.response for each in self._constraints))
        self._quality_limit, self._on_design = float(quality_limit), on_design
        self._progress = getattr(problem, "progress", None) if progress is None else progress
        self._set_variables(bounds, scales)
        self._solved: tuple[str, Solved] | None = None
        self._low = False
        self._solves = self._gradients = self._products = 0
        self._keep(History(Memory()) if folder is None else new_run(folder, self._about()), folder)

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        problem: Any,
        parametrisation: Parametrisation,
        objective: AnyResponse | Objective,
        constraints: Sequence[Constraint] = (),
        *,
        quality_limit: float = 0.1,
        on_design: Callable[[Evaluated], object] | None = None,
        bounds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        scales: npt.ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> Reduced:
        """Take a run up again where it was left, however that was.

        Designs of the run are answered from its files, bit by bit and without a solve: the same optimiser from the same
        start asks for them again in the same order, and so comes to where it was. Designs after that are solved; with
        a direct solver whose results repeat bit by bit they are those of a run that was never interrupted.

        Parameters
        ----------
        folder : path
        problem, parametrisation, objective, constraints, quality_limit, on_design, bounds, scales, progress
            As the run was begun with; limits, bounds and names of constraints may be others.

        Raises
        ------
        RunError
            Where there is no run, where another process is at work on it, where it is one of something else (which the
            message names), and for damaged files.
        """
        reduced = cls(
            problem, parametrisation, objective, constraints, quality_limit=quality_limit, on_design=on_design,
            bounds=bounds, scales=scales, progress=progress,
        )  # fmt: skip
        history, about = earlier_run(folder)
        try:
            require_same(about, reduced._about())
        except BaseException:
            history.close()
            raise
        reduced._keep(history, folder)
        return reduced

    def _keep(self, history: History, folder: Any) -> None:
        """Keep the run in a history, which lets go of its files when nothing holds this any more."""
        self._history, self._folder = history, None if folder is None else Path(folder)
        weakref.finalize(self, history.close)
        self._improving: list[int] = []
        self._least = (np.inf, np.inf)
        for record in history.records:
            self._rank(record)

    def _set_variables(self, bounds: Any, scales: Any) -> None:
        n = self._parametrisation.n
        self._scales = np.ones(n) if scales is None else _filled(scales, n, "scales")
        if not ((self._scales > 0) & np.isfinite(self._scales)).all():
            raise ProblemError("scales must be positive and finite")
        given = self._parametrisation.bounds if bounds is None else bounds
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise ProblemError("bounds must be two, (lower, upper)")
        lower, upper = (_filled(each, n, "bounds") for each in given)
        if not (lower <= upper).all():
            raise ProblemError("bounds must be (lower, upper), with lower <= upper for every variable")
        self._bounds = lower / self._scales, upper / self._scales
        self._start = self._parametrisation.start / self._scales

    # ------------------------------------------------------------------ what it consists of
    @property
    def problem(self) -> Any:
        """What is solved."""
        return self._problem

    @property
    def parametrisation(self) -> Parametrisation:
        """Where the nodes are."""
        return self._parametrisation

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self._objective

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """What is held within limits."""
        return self._constraints

    @property
    def n(self) -> int:
        """Number of variables."""
        return len(self._scales)

    @property
    def m(self) -> int:
        """Number of constraints."""
        return len(self._constraints)

    @property
    def scales(self) -> FloatArray:
        """Sizes of the variables, ``(n,)``."""
        return self._scales

    @property
    def start(self) -> FloatArray:
        """The optimiser's variables of the mesh as it is, ``(n,)``."""
        return self._start

    @property
    def lower(self) -> FloatArray:
        """Smallest values of the optimiser's variables, ``(n,)``."""
        return self._bounds[0]

    @property
    def upper(self) -> FloatArray:
        """Largest values of the optimiser's variables, ``(n,)``."""
        return self._bounds[1]

    @property
    def constraint_lower(self) -> FloatArray:
        """Lower limits of ``constraint_values``, ``(m,)``."""
        return limits_of(self._constraints)[0]

    @property
    def constraint_upper(self) -> FloatArray:
        """Upper limits of ``constraint_values``, ``(m,)``."""
        return limits_of(self._constraints)[1]

    @property
    def history(self) -> History:
        """All designs so far."""
        return self._history

    @property
    def counts(self) -> RunCounts:
        """What the run has taken in this process."""
        analyses, factorisations = self._effort()
        return RunCounts(len(self._history), self._solves, self._gradients, analyses, factorisations)

    def __repr__(self) -> str:
        return shown(
            f"Reduced({self.n} variables, {self.m} constraints, {len(self._history)} designs)",
            problem=repr(self._problem),
            objective=self._objective.name,
            constraints=", ".join(each.name for each in self._constraints),
            folder="" if self._folder is None else str(self._folder),
        )

    def _free(self) -> None:
        """Let go of the folder; another process may take the run up."""
        self._history.close()

    # ------------------------------------------------------------------ designs
    def variables(self, z: npt.ArrayLike) -> FloatArray:
        """The parametrisation's variables ``q`` of the optimiser's."""
        return self._scales * self._checked(z)

    def evaluate(self, z: npt.ArrayLike) -> Evaluated:
        """All about a design: solved if it has never been asked for, answered from the history otherwise."""
        variables = self._checked(z)
        record = self._history.find(variables)
        if record is not None:
            return self._evaluation(variables, record)
        found = self._evaluation(variables, self._new(variables))
        self._watch(found)
        if self._on_design is not None:
            self._on_design(found)
        return found

    @property
    def best(self) -> Evaluated | None:
        """The design within all limits with the smallest objective; where there is none, the one that misses least."""
        return self.design(self._improving[-1]) if self._improving else None

    @property
    def improving(self) -> tuple[int, ...]:
        """Numbers of the designs that were the best one when they were found."""
        return tuple(self._improving)

    def design(self, number: int) -> Evaluated:
        """A design of the history; ProblemError where there is none of that number."""
        if not 0 <= number < len(self._history):
            raise ProblemError(f"there is no design {number!r}: the history has {len(self._history)}, counted from 0")
        return self._evaluation(self._history.variables(number), self._history[number])

    def _rank(self, record: Record) -> None:
        """Note a design that is better than all before it."""
        if record.failure is not None:
            return
        missed = [each.violation(value) for each, value in zip(self._constraints, record.values[1:], strict=True)]
        worst = max(missed, default=0.0)
        merit = worst if worst > FEASIBLE else 0.0, record.values[0] / self._objective.scale
        if merit < self._least:
            self._improving.append(record.number)
            self._least = merit

    # ------------------------------------------------------------------ for optimisers
    def value(self, z: npt.ArrayLike) -> float:
        """The objective in its scale, to be minimised; infinite for a design without an answer."""
        found = self.evaluate(z).record
        return np.inf if found.failure is not None else found.values[0] / self._objective.scale

    def gradient(self, z: npt.ArrayLike) -> FloatArray:
        """Its derivatives, ``(n,)``; zero for a design without an answer."""
        found = self.evaluate(z)
        return np.zeros(self.n) if found.failure is not None else found.gradients[0] / self._objective.scale

    def constraint_values(self, z: npt.ArrayLike) -> FloatArray:
        """All constraints, each in its scale, ``(m,)``; infinitely far from a limit for a design without an answer."""
        found = self.evaluate(z)
        if found.failure is not None:
            return np.where(np.isfinite(self.constraint_upper), np.inf, -np.inf)
        return found.values[1:] / self._sizes

    def jacobian(self, z: npt.ArrayLike) -> FloatArray:
        """Derivatives of ``constraint_values``, ``(m, n)``; zero for a design without an answer."""
        found = self.evaluate(z)
        if found.failure is not None or not self.m:
            return np.zeros((self.m, self.n))
        return found.gradients[1:] / self._sizes[:, None]

    def hessian_product(
        self,
        z: npt.ArrayLike,
        direction: npt.ArrayLike,
        multipliers: npt.ArrayLike | None = None,
        *,
        objective: float = 1.0,
    ) -> FloatArray:
        """Second derivatives of ``objective * value + multipliers . constraint_values`` times a direction, ``(n,)``.

        Two solves for each response that has a weight, on the factor of the design; no factorisation for the last
        design that was solved. The first product of a run is checked against differences of first derivatives.

        Raises
        ------
        SecondOrderError
            Where the problem, a response or the parametrisation has no second derivatives.
        FemadjError
            The failure of a design without an answer.
        """
        found = self.evaluate(z)
        if found.failure is not None:
            raise found.failure
        given = np.zeros(self.m) if multipliers is None else _filled(multipliers, self.m, "multipliers")
        weights = np.concatenate([[objective / self._objective.scale], given / self._sizes])
        along = self._scales * _filled(direction, self.n, "the direction")
        solved = self._solved_at(found.z)
        product = solved.curved(weights, along, check=self._products == 0)
        self._products += 1
        return self._scales * product

    # ------------------------------------------------------------------ work
    @property
    def _sizes(self) -> FloatArray:
        return np.array([each.size for each in self._constraints])

    def _checked(self, z: npt.ArrayLike) -> FloatArray:
        variables = _filled(z, self.n, "the variables") + 0.0  # no -0.0, which is another design bit by bit
        variables.setflags(write=False)
        return variables

    def _evaluation(self, z: FloatArray, record: Record) -> Evaluated:
        return Evaluated(z, record, partial(self._slopes, z, record.number), partial(self._points, z))

    def _new(self, z: FloatArray) -> Record:
        """Solve at a new design and keep what is found."""
        number, start, before = len(self._history), perf_counter(), self._effort()
        record = Record(number, (np.inf,) * (1 + self.m), None, self._step(z), np.nan, 0, 0, 0.0)
        self._solved = None  # first of all: memory of the solution before
        try:
            with self._shown(number):
                require_finite(z)
                placed = self._parametrisation.at(self._scales * z)
                record = replace(record, quality=float(self._problem.mesh.quality(placed.points).min()))
                self._solves += 1
                solved = Solved.at(self._problem, placed, self._responses)
            self._solved = key_of(z), solved
            record = replace(record, values=tuple(solved.values.tolist()), iterations=solved.iterations)
        except FAILURES as failure:
            record = replace(record, failure=forgetful(failure))
        spent = self._effort()[1] - before[1]
        record = replace(record, factorisations=spent, seconds=perf_counter() - start)
        self._history.add(record, z)
        self._rank(record)
        return record

    def _slopes(self, z: FloatArray, number: int) -> FloatArray:
        """Derivatives of all responses by ``z``."""
        found = self._history.slopes(number)
        if found is None:
            found = self._solved_at(z).slopes() * self._scales
            found.setflags(write=False)
            self._gradients += 1
            self._history.add_slopes(number, found)
        return found

    def _points(self, z: FloatArray) -> FloatArray:
        if self._solved is not None and self._solved[0] == key_of(z):
            return self._solved[1].placed.points
        return self._parametrisation.at(self._scales * z).points

    def _solved_at(self, z: FloatArray) -> Solved:
        """The solution at a design: the last one, or solved again."""
        if self._solved is None or self._solved[0] != key_of(z):
            self._solved = None
            self._solves += 1
            placed = self._parametrisation.at(self._scales * z)
            self._solved = key_of(z), Solved.at(self._problem, placed, self._responses)
        return self._solved[1]

    def _step(self, z: FloatArray) -> float:
        if not len(self._history):
            return 0.0
        return float(np.linalg.norm(z - self._history.variables(len(self._history) - 1)))

    def _effort(self) -> tuple[int, int]:
        """Analyses and factorisations of the problem so far."""
        counts = getattr(self._problem, "counts", None)
        return (0, 0) if counts is None else (counts.analyses, counts.factorisations)

    def _shown(self, number: int) -> AbstractContextManager[object]:
        if self._progress is None:
            return nullcontext()
        if not self._improving:
            return self._progress(f"design {number}")
        best = self._improving[-1]
        return self._progress(f"design {number} (best so far: {self._history[best].values[0]:.6g} at {best})")

    def _watch(self, found: Evaluated) -> None:
        """Warn when the quality falls below its limit."""
        low = found.quality < self._quality_limit
        if low and not self._low:
            warnings.warn(
                f"design {found.number}: the smallest scaled Jacobian of the mesh is {found.quality:.3g}, below the "
                f"limit {self._quality_limit:g}; results lose accuracy. Take smaller bounds, a filter or a mesh "
                "motion, or mesh the shape anew and go on from there",
                QualityWarning,
                stacklevel=3,
            )
        self._low = low

    def _about(self) -> Mapping[str, Any]:
        """What the run is of."""
        names = [self._objective.name, *(each.name for each in self._constraints)]
        responses = {f"{number} ({type(r).__name__})": r for number, r in enumerate(self._responses)}
        return {
            "n": self.n,
            "responses": names,
            "parts": parts_of(self._problem, responses),
            "probe": probe(self._parametrisation, self._start, self._scales),
        }


def _require_fitting(problem: Any, parametrisation: Any) -> None:
    """Errors for what is no problem or no parametrisation, and for two that belong to different meshes."""
    if not callable(getattr(problem, "solve", None)) or not hasattr(problem, "mesh"):
        raise ProblemError(f"problem must be a problem on a mesh, with a method solve(points), not {problem!r}")
    if not isinstance(parametrisation, Parametrisation):
        raise ParametrisationError(
            f"parametrisation must be one, such as FreeNodes(mesh, 'group'), not {type(parametrisation).__name__}"
        )
    if not np.array_equal(problem.mesh.points, parametrisation.points):
        raise ParametrisationError(
            "problem and parametrisation belong to different meshes: other nodes, or other coordinates"
        )


def _filled(given: npt.ArrayLike, n: int, what: str) -> FloatArray:
    """An array (n,) of numbers; one number stands for all."""
    array = real_array(given, what, ProblemError, f"a number or an array of shape ({n},)")
    if array.shape not in ((), (n,)):
        raise ProblemError(f"{what} must have shape ({n},), not {array.shape}")
    return np.full(n, float(array)) if array.shape == () else array
