"""What case scripts share: the command line, one run from problem to files, and readable errors.

A case script describes its problem and responses and hands them to ``main``::

    CASE = Case("bracket", __doc__, problem, {"compliance": Quantity(fa.Compliance(), "N mm")}, length_unit="mm")

    if __name__ == "__main__":
        raise SystemExit(main(CASE))
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from femadj.errors import FemadjError, MissingExtraError
from femadj.problems import AnyGradient, AnyProblem, AnySolution
from femadj.progress import Phases, Progress
from femadj.report import (
    Caption,
    Outcome,
    ProgressDisplay,
    View,
    picture,
    print_table,
    results_console,
    summary,
    write_summary,
)
from femadj.responses import OnStage, Response
from femadj.results import write_results
from femadj.sensitivity.adjoint import values_and_gradients
from femadj.sensitivity.verify import verify
from femadj.solvers import ITERATED, SOLVERS

BAD_INPUT = 2
"""Exit status of a run that a femadj error ended, as of a command line that cannot be understood."""


@dataclass(frozen=True)
class Quantity:
    """A response with its unit.

    Attributes
    ----------
    response : Response, or OnStage for a chain
    unit : str
    """

    response: Response | OnStage
    unit: str = ""


@dataclass(frozen=True)
class Run:
    """How a problem is to be built; its fields go to ``LinearStatic``.

    Attributes
    ----------
    arguments : argparse.Namespace
        The command line, with the arguments that the case has added.
    solver : str
    threads : int or None
    progress : Progress
        Measures and shows phases; ``with run.progress("read mesh"):`` adds one.
    """

    arguments: argparse.Namespace
    solver: str
    threads: int | None
    progress: Progress


@dataclass(frozen=True)
class Case:
    """A runnable case.

    Attributes
    ----------
    name : str
        Of the folder and files of its results.
    description : str
        What the problem is; shown by ``--help``. Usually ``__doc__``.
    problem : callable of Run
        Builds the problem.
    responses : mapping of name to Quantity
        The first one is pictured.
    length_unit : str
        Unit of the coordinates, for the words of the picture.
    title : str
        Of the picture; the name when left out.
    labels : mapping of group name to text, optional
        Written beside the groups in the picture.
    view : View, optional
        From where a solid is pictured.
    lines : name and callable of Solution (or ChainSolution), optional
        A field by its nodal values ``(n_nodes,)``, whose contour lines the picture of a plane body shows.
    arguments : callable of argparse.ArgumentParser, optional
        Adds arguments of the case's own.
    figures : callable of Solution (or ChainSolution), optional
        Further results to print and to keep in the summary, by name.
    solve : callable of the problem and the command line, optional
        How the problem is solved, where ``problem.solve()`` is not enough.
    pictures : callable of the solution, the outcomes and the folder of the results, optional
        Draws further pictures there and gives their paths.
    """

    name: str
    description: str | None
    problem: Callable[[Run], AnyProblem]
    responses: Mapping[str, Quantity]
    length_unit: str = "unit"
    title: str = ""
    labels: Mapping[str, str] | None = None
    view: View | None = None
    lines: tuple[str, Callable[[Any], npt.ArrayLike]] | None = None
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    figures: Callable[[Any], Mapping[str, float]] | None = None
    solve: Callable[[Any, argparse.Namespace], Any] | None = None
    pictures: Callable[[Any, Mapping[str, Outcome], Path], Sequence[Path]] | None = None

    def parser(self) -> argparse.ArgumentParser:
        """The command line of the case."""
        parser = argparse.ArgumentParser(
            prog=self.name, description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        names = ", ".join(self.responses)
        parser.add_argument(
            "--out", type=Path, default=Path("results") / self.name, metavar="DIR",
            help="folder of the result files (default: %(default)s)",
        )  # fmt: skip
        parser.add_argument(
            "--verify", nargs="*", choices=list(self.responses), metavar="RESPONSE",
            help="check gradients against problems rebuilt on perturbed meshes, which takes some sixty solves for each "
            f"response ({names}; the first when none is named)",
        )  # fmt: skip
        parser.add_argument(
            "--solver", default="auto", choices=["auto", *SOLVERS, *ITERATED], help="solver (default: %(default)s)"
        )
        parser.add_argument("--threads", type=_positive, metavar="N", help="threads to use (default: all cores)")
        parser.add_argument("--no-picture", action="store_true", help="do not draw the sensitivity")
        if self.arguments is not None:
            self.arguments(parser)
        return parser


@dataclass(frozen=True, eq=False)
class Result:
    """What a run leaves behind.

    Attributes
    ----------
    solution : Solution, ChainSolution or HistorySolution
    outcomes : mapping of response name to Outcome
    files : tuple of Path
        Result files, in the order in which they were written.
    """

    solution: AnySolution
    outcomes: Mapping[str, Outcome]
    files: tuple[Path, ...]


def main(case: Case, argv: Sequence[str] | None = None) -> int:
    """Run a case from the command line.

    Returns
    -------
    int
        Exit status: 0, or 2 when femadj reports an error, which is then written to standard error in words. Other
        exceptions are not caught.
    """
    arguments = case.parser().parse_args(argv)
    try:
        run_case(case, arguments)
    except FemadjError as error:
        print(f"{case.name}: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


def run_case(case: Case, arguments: argparse.Namespace) -> Result:
    """Solve once, compute all gradients, verify if asked, print, and write VTU, PNG and ``summary.json``.

    Parameters
    ----------
    case : Case
    arguments : argparse.Namespace
        As parsed by ``case.parser()``.

    Raises
    ------
    FemadjError
        Whatever is wrong with the input, or VerificationError.
    """
    phases = Phases(ProgressDisplay())
    problem = case.problem(Run(arguments, arguments.solver, arguments.threads, phases))
    solution: Any = problem.solve() if case.solve is None else case.solve(problem, arguments)
    values, found = values_and_gradients(solution, [quantity.response for quantity in case.responses.values()])
    gradients: Sequence[AnyGradient] = found
    outcomes = {
        name: Outcome(float(value), quantity.unit, gradient)
        for (name, quantity), value, gradient in zip(case.responses.items(), values, gradients, strict=True)
    }
    files = []
    with phases("write VTU"):
        named = {name: outcome.gradient for name, outcome in outcomes.items()}
        files.append(write_results(arguments.out / f"{case.name}.vtu", solution, named))
    skipped: str | None = "--no-picture"
    if not arguments.no_picture:
        skipped = None
        try:
            with phases("picture"):
                files.append(_picture(case, solution, outcomes, arguments.out))
                files += () if case.pictures is None else case.pictures(solution, outcomes, arguments.out)
        except MissingExtraError as error:
            skipped = str(error)
    figures = case.figures(solution) if case.figures is not None else None
    data = summary(case.name, solution, outcomes, phases.seconds, figures)
    files.append(write_summary(arguments.out / "summary.json", data))
    console = results_console()
    print_table(data, console)
    for file in files:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)
    if skipped is not None:
        console.print(f"no picture: {skipped}", markup=False, soft_wrap=True)
    if arguments.verify is not None:
        for name in arguments.verify or list(case.responses)[:1]:
            verify(problem, case.responses[name].response, progress=phases)
    return Result(solution, outcomes, tuple(files))


def _picture(case: Case, solution: AnySolution, outcomes: Mapping[str, Outcome], out: Path) -> Path:
    name, outcome = next(iter(outcomes.items()))
    what, lines = ("", None) if case.lines is None else (case.lines[0], case.lines[1](solution))
    caption = Caption(name, outcome.unit, case.length_unit, case.title or case.name, case.labels, what)
    return picture(out / f"{case.name}.png", solution, outcome.gradient, caption, view=case.view, field=lines)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number
