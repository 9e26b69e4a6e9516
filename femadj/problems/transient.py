"""Problems over time: ``M u'' + C u' + r(u) = f(t)`` or ``M u' + r(u) = f(t)``; one factor for all steps if linear."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.algebra.checkpoint import Folder, Schedule, Snapshots, Visit, bytes_of, march, written
from femadj.algebra.newton import Newton
from femadj.algebra.schemes import GeneralisedAlpha
from femadj.algebra.stepping import Scheme
from femadj.base.arguments import mapping_of, path_of, real_array, sequence_of
from femadj.base.arrays import FloatArray
from femadj.base.design import Design
from femadj.base.display import one_line, shown
from femadj.conditions.history import Course, WithHistory, split
from femadj.conditions.loads import Load
from femadj.conditions.supports import Fixed, Supports, unknown_name
from femadj.errors import (
    CheckpointError,
    ConvergenceError,
    IllConditionedError,
    IndefiniteSystemError,
    LoadError,
    ParameterError,
    ProblemError,
    SingularSystemError,
    SupportError,
)
from femadj.mesh import Mesh
from femadj.physics import Physics
from femadj.physics.inertia import inertia_terms
from femadj.problems.fem import FemResidual
from femadj.problems.history import HistorySolution, Reached, folder_of, two_constants
from femadj.problems.initial import NAMES, InitialField, initial_fields
from femadj.problems.motion import Motion
from femadj.problems.nonlinear_fem import NonlinearResidual
from femadj.problems.nonlinear_motion import NonlinearMotion
from femadj.problems.problem import (
    MeshProblem,
    Settings,
    conditions_of,
    is_load,
    is_support,
    located,
    parameters_of,
)
from femadj.problems.times import Times
from femadj.progress import Phases, Progress
from femadj.solvers.base import Solver
from femadj.space.parameters import Parameter, Parameters

_AGREE = 1e-9


class Transient(MeshProblem):
    """A problem over time, from time zero, on a mesh of fixed topology.

    The inertia is the density of the material (of a scalar physics its capacity per volume), or forms with the rate of
    the highest time derivative. The scheme says whether that is the second (``GeneralisedAlpha``, ``Newmark``) or the
    first (``ImplicitEuler``, ``Midpoint``, ``SDIRK2``, ``SDIRK3``, ``BDF2``). A run takes one factorisation of the
    matrix of its steps and one of the inertia, for what the supports and loads at time zero make of the highest
    derivative; gradients take none.
    Nonlinear physics (``NonlinearForm``, ``Hyperelastic``) takes one factorisation in every Newton iteration of every
    step, and one for every step on the way back, of the tangent at its solution: factors are not kept.

    Parameters
    ----------
    mesh : Mesh
    physics : Physics
        Linear or nonlinear in the unknowns; linear in their time derivatives.
    supports : sequence of Fixed or WithHistory
        A moving body needs none.
    loads : sequence of loads or WithHistory
        Loads without a history are constant from time zero on.
    scheme : Scheme
    damping : (c_M, c_K)
        Rayleigh damping ``C = c_M M + c_K K``, besides that of forms with rate 1; second order only. Of nonlinear
        problems ``c_K`` must be zero, and the parameter ``damping`` is ``(c_M,)``.
    times : Times, optional
        Final time and number of steps, where ``solve`` is not given others.
    initial : (u0, v0), in first order u0, optional
        Initial values: for each None (zero), a number or components, the values of all unknowns, or a function of
        position that is differentiated as the nodes move. At supports values are those of the supports; arrays and
        functions must agree with them.
    solver, quadrature_order, progress
        As in ``LinearStatic``.
    threads : int, optional
        Of the element kernels, and of a solver given by name. Left out: all cores, and one for the solver, so that a
        step gives the same bits whenever it is taken; with more, solvers add up in an order that changes.

    Raises
    ------
    FemadjError
        Whatever is wrong with the input, before anything is computed.
    """

    def __init__(
        self,
        mesh: Mesh,
        physics: Physics,
        supports: Sequence[Fixed | WithHistory] = (),
        loads: Sequence[Load | WithHistory] = (),
        *,
        scheme: Scheme = GeneralisedAlpha(),  # noqa: B008 -- frozen
        damping: tuple[float, float] = (0.0, 0.0),
        times: Times | None = None,
        initial: Any = None,
        solver: str | Solver = "auto",
        threads: int | None = None,
        quadrature_order: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._set(mesh, physics, Settings(solver, threads, quadrature_order, progress))
        if not callable(getattr(scheme, "stepper", None)) or isinstance(scheme, type):
            raise ProblemError(f"scheme must be a scheme, such as GeneralisedAlpha() or SDIRK2(), not {scheme!r}")
        self._scheme = scheme
        given = (supports,) if isinstance(supports, (Fixed, WithHistory)) else supports
        self._supports = conditions_of(given, _holds(is_support), "supports", "Fixed('name')", SupportError)
        self._loads = conditions_of(loads, _holds(is_load), "loads", "Traction('name', value)", LoadError)
        self._damping = _damping(damping, scheme.order)
        self._times = None if times is None else _times(times)
        phases = Phases(progress)
        with phases("bind"):
            self._bind()
        self._given = initial
        self._initial = initial_fields(initial, self._residual.space, scheme.order)
        self._check_initial(self._initial, mesh.points)
        with phases("prepare kernels"):
            for residual in (self._residual, *self._load_residuals):
                residual.prepare()
        with phases("analyse"):
            alone = 1 if threads is None and isinstance(solver, str) else None
            self._symbolic = self._solver.analyse(
                self._residual.structure, self._residual.kind, threads=alone, unknowns=self._unknowns
            )
        self._seconds = phases.seconds

    def _bind(self) -> None:
        """Physics, inertia, supports, and loads by their histories."""
        mesh, physics, order = self._mesh, self._physics, self._settings.quadrature_order
        plain, courses = split(self._loads)
        parameters = parameters_of(mesh, physics, plain)
        space = replace(physics.discretise(mesh, self._settings.threads), stiffness_order=order)
        if plain and not space.nodal:
            raise LoadError(
                f"{type(plain[0]).__name__} loads fields with values at the mesh nodes, which the unknown of "
                f"{physics!r} has not: write it as a linear form of the Form"
            )
        bound = physics.bind(space, parameters, order)
        rates = {term.rate for term in bound.internal}
        highest = self._scheme.order
        if max(rates) > highest:
            raise ProblemError(
                f"a form has the rate {max(rates)}, and {type(self._scheme).__name__} is for equations of order "
                f"{highest} in time"
            )
        inertia = () if highest in rates else tuple(inertia_terms(space, physics, highest))
        self._damped = highest == 2 and 1 in rates
        held, self._held_courses = split(self._supports)
        supports = Supports.resolved(space, physics, [replace(each) for each in held])  # told apart, were they one
        for name in ("final_time", "damping", *NAMES):
            if name in parameters:
                raise ParameterError(
                    f"a parameter of physics or loads cannot have the name {name!r}, which is one of the problem's own"
                )
        whole = FemResidual.of(space, replace(bound, external=()), (), supports, parameters)
        self._residual = replace(whole, internal=(*bound.internal, *inertia))
        self._static = self._nonlinear_part()
        terms = [(course, tuple(load.bind(space, physics))) for load, course in zip(plain, courses, strict=True)]
        if not all(term.linear for term in (*bound.external, *(term for _, each in terms for term in each))):
            raise LoadError(
                "a load that follows the displacement cannot be integrated in time: leave out follower=True, or solve "
                "for an equilibrium with NonlinearStatic"
            )
        constant = [term for course, each in terms if course.constant for term in each]
        groups = [(Course(), (*bound.external, *constant))] if bound.external or constant else []
        self._histories = tuple(range(len(groups), len(groups) + sum(not course.constant for course in courses)))
        groups += [(course, each) for course, each in terms if not course.constant]
        self._load_courses = tuple(course for course, _ in groups)
        self._load_residuals = tuple(replace(whole, internal=(), external=each) for _, each in groups)
        self._held = self._groups_of_supports(supports)

    def _nonlinear_part(self) -> NonlinearResidual | None:
        """The terms that no time derivative enters, where they are nonlinear in the unknowns; None where they are not.

        ProblemError for what is not integrated in time.
        """
        whole = self._residual
        if whole.is_linear:
            return None
        if self._damping[1]:
            raise ProblemError(
                f"damping={tuple(map(float, self._damping))}: the stiffness of a nonlinear problem depends on the "
                "state, so that c_K must be zero; give damping by c_M, or as a form with rate=1"
            )
        if not all(term.linear for term in whole.internal if term.rate):
            raise ProblemError(f"{self._physics!r} is nonlinear in a time derivative, which is not integrated in time")
        static = tuple(term for term in whole.internal if not term.rate)
        return NonlinearResidual(
            whole.space,
            whole.pattern,
            static,
            (),
            whole.supports,
            whole.constraints,
            whole.parameters,
            whole.kind,
            whole.null_modes,
        )

    def _groups_of_supports(self, supports: Supports) -> npt.NDArray[np.bool_]:
        """Unknowns of each support, ``(n_supports, n)``; SupportError where two histories hold the same one."""
        owner = np.full(supports.fixed.size, -1, dtype=np.int64)
        courses = self._held_courses
        for each in supports.constrained:
            number = next(n for n, s in enumerate(supports.supports) if s is each.support)
            before = owner[each.unknowns]
            for other in np.unique(before[before >= 0]):
                rival = supports.supports[other]
                same = courses[other].functions == courses[number].functions
                if not same and rival.overrides == each.support.overrides:
                    where = unknown_name(supports.space, supports.names, int(each.unknowns[before == other][0]))
                    raise SupportError(
                        f"supports on {rival.group!r} and {each.support.group!r} hold {where} with different "
                        "histories; Fixed(..., overrides=True) lets one of them prevail"
                    )
            owner[each.unknowns] = number
        return owner == np.arange(len(courses))[:, None]

    # ------------------------------------------------------------------ what it consists of
    @property
    def arguments(self) -> Mapping[str, Any]:
        """What it was made from, by the names of the arguments; all but who is notified of phases."""
        return {
            **super().arguments,
            "supports": self._supports,
            "loads": self._loads,
            "scheme": self._scheme,
            "damping": tuple(self._damping),
            "times": self._times,
            "initial": self._given,
        }

    @property
    def supports(self) -> tuple[Fixed | WithHistory, ...]:
        """The supports."""
        return self._supports

    @property
    def loads(self) -> tuple[Load | WithHistory, ...]:
        """The loads."""
        return self._loads

    @property
    def scheme(self) -> Scheme:
        """How steps are taken."""
        return self._scheme

    @property
    def histories(self) -> tuple[int, ...]:
        """Groups of the loads that have a history of their own, in their order."""
        return self._histories

    @property
    def residual(self) -> FemResidual:
        """The discrete residual, inertia and damping by forms included, without the loads."""
        return self._residual

    @property
    def parameters(self) -> Parameters:
        """Parameters of physics and loads, and ``final_time``, ``damping`` and initial values where given as such."""
        final = None if self._times is None else np.array(float(self._times.final))
        own = {"final_time": Parameter("constant", (), final)}
        if self._scheme.order == 2:
            damping = self._damping if self._static is None else self._damping[:1]
            own["damping"] = Parameter("constant", damping.shape, damping)
        for field in self._initial:
            if field.values is not None:
                own[field.name] = Parameter("constant", field.values.shape, field.values)
        return self._residual.parameters.merged(Parameters(MappingProxyType(own)))

    def rebuilt(self, points: npt.ArrayLike) -> Transient:
        """The same problem built anew, from scratch, on a mesh with other reference coordinates."""
        built = Transient(**{**self.arguments, "mesh": self._mesh.with_points(points), "initial": None})
        built._initial = self._initial  # checked where they were given
        return built

    def __repr__(self) -> str:
        supports, counts = self._residual.supports, self.counts
        return shown(
            f"Transient({self.n_unknowns} unknowns, {int(supports.fixed.sum())} prescribed, solver {self.solver_name}, "
            f"analyses: {counts.analyses}, factorisations: {counts.factorisations})",
            scheme=repr(self._scheme),
            times="" if self._times is None else repr(self._times),
            mesh=repr(self._mesh),
            physics=repr(self._physics),
            supports="; ".join(map(supports.described, supports.supports)),
            loads="; ".join(one_line(load, 50) for load in self._loads),
            parameters=", ".join(self.parameters),
        )

    # ------------------------------------------------------------------ solving
    def solve(
        self,
        points: npt.ArrayLike | None = None,
        parameters: Mapping[str, npt.ArrayLike] | None = None,
        *,
        times: Times | None = None,
        initial: Any = None,
        memory: int | str | None = None,
        folder: str | os.PathLike[str] | None = None,
        disk: int | str | None = None,
        observe: Sequence[Any] = (),
        newton: Newton | None = None,
    ) -> HistorySolution:
        """Go through all steps at the given node coordinates (the mesh's own when left out).

        Parameters
        ----------
        points : (n_nodes, dim), optional
        parameters : mapping of name to values, optional
            Values that differ from the declared ones.
        times : Times, optional
        initial : optional
            As for the problem.
        memory : int or str, optional
            Budget of the states that are kept, in bytes or as ``"2 GiB"``; all of them when left out. What is not kept
            is stepped to again on the way back; the logger ``femadj`` and the phase of the steps say what that costs.
        folder : path, optional
            Where states are kept on disk as well, with the sums of the way back, so that a run that was killed at any
            moment goes on where it was, with the same numbers, when it is started again.
        disk : int or str, optional
            Most that the folder may take; what is free on the disk when left out.
        observe : sequence of TimeResponse, optional
            Their values are collected on the way, which saves reading states again that are not kept.
        newton : Newton, optional
            How the steps of a nonlinear problem are solved; its load steps do not matter.

        Returns
        -------
        HistorySolution
            Owns the factors; gradients reuse them.

        Raises
        ------
        CheckpointError
            Where states do not fit into the memory or onto the disk, and for a folder of another run.
        ConvergenceError
            Where the iterations of a nonlinear step find nothing. The message names step and time; ``level`` is the
            part of the time that was reached, ``u`` the field there, and ``path`` what it was at the states that are
            kept, as ``Moment`` s.
        FemadjError
            As ``LinearStatic.solve``.
        """
        x = self._placed(points)
        own, given = self._split(parameters)
        steps = self._steps(times, own)
        fields = self._initial
        if initial is not None:
            fields = initial_fields(initial, self._residual.space, self._scheme.order)
            self._check_initial(fields, x)
        phases = Phases(self.progress)
        with phases("assemble"):
            motion = self._motion(Design(x, given), steps, fields, own, _newton(newton, self._static is None))
        bytes_of_state = 8 * self._scheme.rows * self.n_unknowns
        budget = None if memory is None else bytes_of(memory, "memory", CheckpointError)
        schedule = Schedule.within(steps.steps, bytes_of_state, budget)
        kept = None if folder is None else self._folder(folder, disk, motion, steps, schedule)
        stepper = self._scheme.stepper(motion, steps.step)
        solution = HistorySolution(self, motion, stepper, steps, Snapshots.of(schedule, kept), {})
        visit = solution.watching(_observing(observe))
        if not schedule.complete:
            logging.getLogger("femadj").info("%s", schedule)
        with phases("time steps" if schedule.complete else f"time steps, {schedule}"):
            self._march(solution, visit)
        motion.require_linear_at(solution.u)
        return replace(solution, seconds=phases.seconds)

    def _march(self, solution: HistorySolution, visit: Visit) -> None:
        """Go through the steps; errors say where, and keep what was found."""
        reached = Reached(solution)
        try:
            march(solution.stepper, solution.snapshots, reached.then(visit))
        except (SingularSystemError, IndefiniteSystemError, IllConditionedError) as error:
            raise located(error, self._residual.space, self._physics) from error
        except ConvergenceError as error:
            raise reached.kept(error) from error

    def _split(self, parameters: Mapping[str, npt.ArrayLike] | None) -> tuple[dict[str, FloatArray], dict[str, Any]]:
        """Values of the parameters of the time, and of the others."""
        given = self.parameters.given(mapping_of(parameters, "parameters", ParameterError))
        ours = [name for name in self.parameters if name not in self._residual.parameters]
        return {n: v for n, v in given.items() if n in ours}, {n: v for n, v in given.items() if n not in ours}

    def _steps(self, times: Times | None, own: Mapping[str, FloatArray]) -> Times:
        found = self._times if times is None else _times(times)
        if found is None:
            raise ProblemError("say which times: solve(times=Times(final, steps)), or Transient(..., times=...)")
        return Times(float(own["final_time"]), found.steps) if "final_time" in own else found

    def _motion(
        self,
        design: Design,
        times: Times,
        fields: Sequence[InitialField],
        own: Mapping[str, FloatArray],
        newton: Newton,
    ) -> Motion:
        """The equations at a design."""
        linear, static = self._residual, self._static
        if static is not None:
            linear = replace(linear, internal=tuple(term for term in linear.internal if term.rate))
        at = linear.at(design)
        loads = tuple(residual.at(design) for residual in self._load_residuals)
        courses = (*self._load_courses, *self._held_courses)
        for course in courses:
            course.check(float(times.final))
        components = self._residual.space.n_components
        found = [field.at(at.points, components) for field in fields]
        values = [own.get(f.name, v) for f, (v, _) in zip(fields, found, strict=True)]
        slopes = tuple(None if f.name in own else s for f, (_, s) in zip(fields, found, strict=True))
        initial = at.constraints.restrict(np.array(values).reshape(len(values), -1))
        damping = two_constants(own.get("damping", self._damping))
        equations = (
            at, self._scheme.order, damping, self._damped, loads, self._load_courses,
            self._held, tuple(self._held_courses), times.at(self._scheme.abscissae), times.grid, self._scheme.means,
            initial, slopes, self._symbolic,
        )  # fmt: skip
        motion = Motion(*equations) if static is None else NonlinearMotion(*equations, static.at(design), newton)
        motion.require_inertia()
        _ = motion.vectors, motion.coefficients
        return motion

    def _folder(
        self, path: str | os.PathLike[str], disk: int | str | None, motion: Motion, times: Times, schedule: Schedule
    ) -> Folder:
        """The folder of a run; CheckpointError where the states do not fit onto its disk."""
        folder = folder_of(path_of(path, "folder", CheckpointError), motion, self._scheme, times)
        needed = 8 * self._scheme.rows * self.n_unknowns * (schedule.kept + 1)
        if disk is not None:
            room, whose = bytes_of(disk, "disk", CheckpointError), f"disk={disk!r} is"
        else:
            there = next(p for p in (folder.path.absolute(), *folder.path.absolute().parents) if p.exists())
            room, whose = shutil.disk_usage(there).free, f"free in {Path(there)} are"
        if needed > room:
            raise CheckpointError(
                f"{schedule.kept + 1} states take {written(needed)}, and {whose} {written(room)}: keep fewer by "
                "memory=..., which are stepped to again on the way back"
            )
        folder.begin()
        return folder

    def _check_initial(self, fields: Sequence[InitialField], points: FloatArray) -> None:
        """ProblemError for initial values that contradict the supports."""
        supports = self._residual.supports
        start, prescribed = np.zeros(1), supports.prescribed(points).values.ravel()
        for rate, field in enumerate(fields):
            if not field.everywhere:
                continue
            values = field.at(points, self._residual.space.n_components)[0].ravel()
            for group, course in zip(self._held, self._held_courses, strict=True):
                wanted = course.at(start, rate)[0] * prescribed
                scale = _AGREE * max(float(np.abs(values).max()), float(np.abs(wanted).max()))
                bad = np.flatnonzero(group & (np.abs(values - wanted) > scale))
                if len(bad):
                    where = unknown_name(supports.space, supports.names, int(bad[0]))
                    raise ProblemError(
                        f"{field.name} contradicts the supports at {where}: {values[bad[0]]:g}, and "
                        f"{wanted[bad[0]]:g} is prescribed there at time zero. Give what is prescribed, or components "
                        "in place of an array, which are meant for free unknowns alone"
                    )


def _holds(fits: Any) -> Any:
    """Whether something fits, with or without a history."""
    return lambda item: fits(item.condition if isinstance(item, WithHistory) else item)


def _observing(given: Any) -> tuple[Any, ...]:
    responses = sequence_of(given, "observe", ProblemError, ": write observe=[response]")
    for each in responses:
        if not callable(getattr(each, "observations", None)) or isinstance(each, type):
            raise ProblemError(f"observe takes responses such as AtTime(...) and TimeIntegral(...), not {each!r}")
    return responses


def _times(given: Any) -> Times:
    if not isinstance(given, Times):
        raise ProblemError(f"times must be Times(final, steps), not {given!r}")
    return given


def _newton(given: Any, linear: bool) -> Newton:
    if given is None:
        return Newton()
    if not isinstance(given, Newton):
        raise ProblemError(f"newton must be Newton(...), not {given!r}")
    if linear:
        raise ProblemError("newton= is for nonlinear problems; the steps of this one take one linear solve each")
    return given


def _damping(given: Any, order: int) -> FloatArray:
    """Rayleigh's two constants."""
    array = real_array(given, "damping", ProblemError, "two numbers (c_M, c_K)")
    if array.shape != (2,) or not np.isfinite(array).all() or (array < 0).any():
        raise ProblemError(f"damping must be two numbers (c_M, c_K), zero or positive, not {given!r}")
    if array.any() and order == 1:
        raise ProblemError("Rayleigh damping belongs to equations of second order; the scheme is one of first order")
    return array


__all__ = ["Transient"]
