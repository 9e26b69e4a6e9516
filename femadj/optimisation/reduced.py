"""A problem and its responses as functions of design variables, for any optimiser; no design is solved twice."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.base.arguments import described, flag, notified, path_of, real_array, whole_number
from femadj.base.arrays import FloatArray
from femadj.base.display import shown
from femadj.base.pickling import HoldsSolver
from femadj.errors import ParametrisationError, ProblemError, QualityWarning
from femadj.optimisation.constraint import Constraint, Objective, constraints_of, limits_of, objective_of
from femadj.optimisation.designs import Designs
from femadj.optimisation.evaluation import Evaluated
from femadj.optimisation.history import History, Memory, Record
from femadj.optimisation.identity import parts_of, probe, require_same
from femadj.optimisation.parametrisation import Parametrisation
from femadj.optimisation.picture import draw_history
from femadj.optimisation.ranking import Ranking
from femadj.optimisation.run_folder import earlier_run, new_run
from femadj.optimisation.shapes import chosen, write_series, write_shape, write_solved
from femadj.optimisation.step import largest_step
from femadj.problems.gradient import Metric
from femadj.progress import Progress
from femadj.responses.base import AnyResponse
from femadj.solvers.closing import Closing

TRIALS, LESS = 60, 0.9
"""Shorter steps that are tried along a curved way, and by how much one is shorter than that before it, at least."""


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
    solutions : int
        Of how many of the last designs the solution is kept, with its factor where it has one of its own. One is enough
        for methods of first order; one with Hessian products that tries designs and goes back needs two.
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
        solutions: int = 1,
        quality_limit: float = 0.1,
        on_design: Callable[[Evaluated], object] | None = None,
        bounds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        scales: npt.ArrayLike | None = None,
        progress: Progress | None = None,
    ) -> None:
        _require_fitting(problem, parametrisation)
        notified(progress, ProblemError)
        whole_number(solutions, 1, "solutions", ProblemError)
        if on_design is not None and not callable(on_design):
            raise ProblemError(f"on_design must be a function of a design, not {described(on_design)}")
        self._objective, self._constraints = objective_of(objective), constraints_of(constraints)
        self._quality_limit = _filled(quality_limit, 1, "quality_limit")[0]
        self._on_design = on_design
        self._progress = getattr(problem, "progress", None) if progress is None else progress
        self._scales = _scales(scales, parametrisation.n)
        self._bounds = _bounds(parametrisation.bounds if bounds is None else bounds, self._scales)
        responses = (self._objective.response, *(each.response for each in self._constraints))
        self._designs = Designs(problem, parametrisation, responses, self._scales, solutions, History(Memory()))
        self._low = False
        self._checked_twice: set[int] = set()
        self._keep(self.history if folder is None else new_run(folder, self._about()), folder)

    @classmethod
    def resume(
        cls,
        folder: str | os.PathLike[str],
        problem: Any,
        parametrisation: Parametrisation,
        objective: AnyResponse | Objective,
        constraints: Sequence[Constraint] = (),
        *,
        solutions: int = 1,
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
        problem, parametrisation, objective, constraints, solutions, quality_limit, on_design, bounds, scales, progress
            As the run was begun with; limits, bounds and names of constraints may be others.

        Raises
        ------
        RunError
            Where there is no run, where another process is at work on it, where it is one of something else (which the
            message names), and for damaged files.
        """
        reduced = cls(
            problem, parametrisation, objective, constraints, solutions=solutions, quality_limit=quality_limit,
            on_design=on_design, bounds=bounds, scales=scales, progress=progress,
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
        self._designs.history, self._folder = history, None if folder is None else Path(folder)
        weakref.finalize(self, history.close)
        self._ranking = Ranking(self._objective, self._constraints)
        for record in history.records:
            self._ranking.note(record)

    # ------------------------------------------------------------------ what it consists of
    @property
    def problem(self) -> Any:
        """What is solved."""
        return self._designs.problem

    @property
    def parametrisation(self) -> Parametrisation:
        """Where the nodes are."""
        return self._designs.parametrisation

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
        return self.parametrisation.start / self._scales

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
        return self._designs.history

    @property
    def counts(self) -> RunCounts:
        """What the run has taken in this process."""
        found = self._designs
        return RunCounts(len(self.history), found.solves, found.gradients, *found.effort())

    def __repr__(self) -> str:
        return shown(
            f"Reduced({self.n} variables, {self.m} constraints, {len(self.history)} designs)",
            problem=repr(self.problem),
            objective=self._objective.name,
            constraints=", ".join(each.name for each in self._constraints),
            folder="" if self._folder is None else str(self._folder),
        )

    def _free(self) -> None:
        """Let go of the folder; another process may take the run up."""
        self.history.close()

    # ------------------------------------------------------------------ designs
    def variables(self, z: npt.ArrayLike) -> FloatArray:
        """The parametrisation's variables ``q`` of the optimiser's."""
        return self._scales * self._checked(z)

    def evaluate(self, z: npt.ArrayLike) -> Evaluated:
        """All about a design: solved if it has never been asked for, answered from the history otherwise."""
        variables = self._checked(z)
        record = self.history.find(variables)
        if record is not None:
            return self._evaluated(variables, record)
        record = self._designs.new(variables, self._shown())
        self._ranking.note(record)
        self._watch(record)
        found = self._evaluated(variables, record)
        if self._on_design is not None:
            self._on_design(found)
        return found

    @property
    def best(self) -> Evaluated | None:
        """The design within all limits with the smallest objective; where there is none, the one that misses least."""
        return self.design(self.improving[-1]) if self.improving else None

    @property
    def improving(self) -> tuple[int, ...]:
        """Numbers of the designs that were the best one when they were found."""
        return tuple(self._ranking.improving)

    def design(self, number: int) -> Evaluated:
        """A design of the history; ProblemError where there is none of that number."""
        if not 0 <= number < len(self.history):
            raise ProblemError(f"there is no design {number!r}: the history has {len(self.history)}, counted from 0")
        return self._evaluated(self.history.variables(number), self.history[number])

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
        design that was solved. The first product of each response is checked against differences of its gradient.

        Raises
        ------
        SecondOrderError
            Where the problem, a response or the parametrisation has no second derivatives.
        FemadjError
            The failure of a design without an answer.
        """
        found = self.evaluate(z)
        if found.failure is not None:
            raise copy(found.failure)
        given = np.zeros(self.m) if multipliers is None else _filled(multipliers, self.m, "multipliers")
        weights = np.concatenate([[objective / self._objective.scale], given / self._sizes])
        along = self._scales * _filled(direction, self.n, "the direction")
        product = self._designs.solved(found.z).curved(weights, along, self._checked_twice)
        return self._scales * product

    def largest_step(
        self,
        z: npt.ArrayLike,
        direction: npt.ArrayLike,
        *,
        keep: float = 0.1,
        most: float = 1.0,
        orders: Sequence[int] = (),
    ) -> float:
        """The largest ``t`` for which ``z + t * direction`` leaves each Jacobian a part ``keep`` of that at ``z``.

        Exact where the parametrisation is linear. For others a step for which that is so at its end: the nodes' way to
        where the step takes them is cut where it is too long, along its chord, and the shorter step is checked in turn,
        which places the mesh once for each.

        Parameters
        ----------
        z, direction : (n,)
        keep, most, orders
            As of ``fa.largest_step``.

        Raises
        ------
        TangledMeshError
            Where the mesh is tangled at ``z`` itself.
        """
        variables = self._checked(z)
        along = self._scales * _filled(direction, self.n, "the direction")
        placed, mesh = self._designs.placed(variables), self.problem.mesh
        if self.parametrisation.linear:
            motion = placed.pushforward(along)
            return largest_step(mesh, placed.points, motion, keep=keep, most=most, orders=orders)
        step = float(most)
        for _ in range(TRIALS):
            chord = self.parametrisation.at(self._scales * variables + step * along).points - placed.points
            part = largest_step(mesh, placed.points, chord, keep=keep, most=1.0, orders=orders)
            if part == 1.0:
                return step
            step *= min(part, LESS)
        return 0.0

    # ------------------------------------------------------------------ files
    @property
    def names(self) -> tuple[str, ...]:
        """Of objective and constraints; those that occur twice are numbered."""
        given = [self._objective.name, *(each.name for each in self._constraints)]
        return tuple(name if given.count(name) == 1 else f"{name} [{k}]" for k, name in enumerate(given))

    def plot(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Draw the history: objective, constraints, step, mesh quality, factorisations and iterations by designs.

        Parameters
        ----------
        path : path, optional
            PNG file; ``history.png`` in the folder of the run when left out.

        Raises
        ------
        MissingExtraError
            Without matplotlib.
        """
        return draw_history(
            self._file(path, "history.png"), self.history.records, self._objective, self._constraints,
            self.improving, self._quality_limit,
        )  # fmt: skip

    def write_shapes(
        self,
        path: str | os.PathLike[str] | None = None,
        designs: str | int | Sequence[int] = "improving",
        *,
        solve: bool = False,
        metric: Metric | None = None,
    ) -> Path:
        """Write shapes of the run as a series for ParaView: a PVD file, and a VTU file for each of them.

        Point data are the ``movement`` from the mesh as it was, and ``node_id``; cell data the ``quality``.

        Parameters
        ----------
        path : path, optional
            PVD file; ``shapes.pvd`` in the folder of the run when left out. The VTU files are in a folder of its name.
        designs : "improving", "all", int or sequence of int
            Designs that were the best one when they were found; all that have an answer; every k-th of these; or some
            by their numbers.
        solve : bool
            Whether the chosen designs are solved again, so that there are all fields that ``write_results`` writes:
            displacement, and raw gradients of all responses by the node coordinates.
        metric : HelmholtzFilter, or anything with a method ``riesz(gradient)``, optional
            With ``solve``: filtered gradients are written beside the raw ones.

        Raises
        ------
        FemadjError
            The failure of a design that is named and cannot be solved.
        """
        flag(solve, "solve", ProblemError)
        mesh = self.problem.mesh

        def write(number: int, file: Path) -> Path:
            z = self.history.variables(number)
            if not solve:
                return write_shape(file, mesh, self._designs.points(z))
            return write_solved(file, mesh, self._designs.solved(z), self.names, metric)

        numbers = chosen(designs, self.history.records, self.improving)
        return write_series(self._file(path, "shapes.pvd"), numbers, write)

    def _file(self, path: Any, name: str) -> Path:
        if path is not None:
            return path_of(path, "path", ProblemError)
        if self._folder is None:
            raise ProblemError(f"say where {name} is to be written: the run has no folder")
        return self._folder / name

    # ------------------------------------------------------------------ work
    @property
    def _sizes(self) -> FloatArray:
        return np.array([each.size for each in self._constraints])

    def _checked(self, z: npt.ArrayLike) -> FloatArray:
        variables = _filled(z, self.n, "the variables") + 0.0  # no -0.0, which is another design bit by bit
        variables.setflags(write=False)
        return variables

    def _evaluated(self, z: FloatArray, record: Record) -> Evaluated:
        designs = self._designs
        return Evaluated(z, record, partial(designs.slopes, z, record.number), partial(designs.points, z))

    def _shown(self) -> AbstractContextManager[object]:
        """Tell whoever watches that a new design begins."""
        if self._progress is None:
            return nullcontext()
        name = f"design {len(self.history)}"
        if self.improving:
            best = self.history[self.improving[-1]]
            name += f" (best so far: {best.values[0]:.6g} at {best.number})"
        return self._progress(name)

    def _watch(self, record: Record) -> None:
        """Warn when the quality falls below its limit."""
        if record.failure is not None:
            return
        low = record.quality < self._quality_limit
        if low and not self._low:
            warnings.warn(
                f"design {record.number}: the smallest scaled Jacobian of the mesh is {record.quality:.3g}, below the "
                f"limit {self._quality_limit:g}; results lose accuracy. Take smaller bounds, a filter or a mesh "
                "motion, or mesh the shape anew and go on from there",
                QualityWarning,
                stacklevel=3,
            )
        self._low = low

    def _about(self) -> Mapping[str, Any]:
        """What the run is of."""
        responses = {f"{number} ({type(r).__name__})": r for number, r in enumerate(self._designs.responses)}
        return {
            "n": self.n,
            "responses": list(self.names),
            "parts": parts_of(self.problem, responses),
            "probe": probe(self.parametrisation, self.start, self._scales),
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


def _scales(given: npt.ArrayLike | None, n: int) -> FloatArray:
    scales = np.ones(n) if given is None else _filled(given, n, "scales")
    if not ((scales > 0) & np.isfinite(scales)).all():
        raise ProblemError("scales must be positive and finite")
    return scales


def _bounds(given: Any, scales: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Of the optimiser's variables."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise ProblemError(f"bounds must be two, (lower, upper), not {described(given)}")
    lower, upper = (_filled(each, len(scales), "bounds") for each in given)
    if not (lower <= upper).all():
        raise ProblemError("bounds must be (lower, upper), with lower <= upper for every variable")
    return lower / scales, upper / scales
