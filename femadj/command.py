"""The command ``femadj``; its one part so far is ``femadj doctor``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from femadj.doctor.checks import Check, Examination
from femadj.doctor.examine import examined
from femadj.doctor.machine import machine
from femadj.doctor.timings import SIZES, Timing, timings
from femadj.errors import FemadjError
from femadj.io.atomic import complete_file
from femadj.report.table import results_console
from femadj.solvers import SOLVERS, available_solvers

FAILED, BAD_INPUT = 1, 2
MARKS: Mapping[str, str] = {
    "passed": "[green]passed[/]",
    "failed": "[red]FAILED[/]",
    "not checked": "[yellow]not checked[/]",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 0, 1 where a check failed, 2 for input that cannot be understood."""
    parser = argparse.ArgumentParser(prog="femadj", description="Shape sensitivities of finite element problems.")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    doctor = parts.add_parser(
        "doctor",
        help="check libraries, devices, solvers, kernels and gradients on this machine",
        description="Check libraries, devices, solvers, kernels and gradients on this machine, and time a design. The "
        "exit status is 1 where a check fails. What cannot be checked here is said, and fails where it is required.",
    )
    doctor.add_argument("--require", nargs="*", default=[], choices=list(SOLVERS), help="solvers that must be there")
    doctor.add_argument("--meshes", type=Path, metavar="DIR", help="folder with .msh and .inp files for the kernels")
    doctor.add_argument(
        "--sizes", nargs="*", type=int, default=list(SIZES), metavar="N",
        help="cells along the sides of the cubes that are timed; none: no times (default: %(default)s)",
    )  # fmt: skip
    doctor.add_argument("--json", type=Path, metavar="FILE", help="where the record goes")
    doctor.set_defaults(call=_doctor)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.call(arguments))
    except FemadjError as error:
        print(f"femadj: {error}", file=sys.stderr)
        return BAD_INPUT


def _doctor(arguments: argparse.Namespace) -> int:
    console = results_console()
    known = machine()
    console.print(_listed(known))
    examination = examined(arguments.require, arguments.meshes, lambda check: _tell(console, check))
    found: list[Timing] = []
    _keep(arguments.json, known, examination, found)  # what is done is kept, whatever comes after
    for timing in timings(available_solvers(), arguments.sizes):
        found.append(timing)
        _keep(arguments.json, known, examination, found)
    if found:
        console.print(_table(found))
    counts = examination.counts
    console.print(", ".join(f"{number} {outcome}" for outcome, number in counts.items()))
    if arguments.json is not None:
        console.print(f"wrote {arguments.json}", markup=False, soft_wrap=True)
    return FAILED if counts["failed"] else 0


def _keep(file: Path | None, known: Mapping[str, Any], examination: Examination, found: Sequence[Timing]) -> None:
    """Write the record as far as it goes."""
    if file is None:
        return
    checks = [vars(check) for check in examination.checks]
    record = {"machine": known, "checks": checks, "seconds": [each._asdict() for each in found]}
    with complete_file(file, FemadjError) as path:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _tell(console: Console, check: Check) -> None:
    console.print(f"{MARKS[check.outcome]}  {check.area}: {check.name}", end="  ", soft_wrap=True)
    console.print(check.detail, markup=False, soft_wrap=True, style="dim" if check.outcome == "passed" else "")


def _listed(known: Mapping[str, Any]) -> Table:
    table = Table("", "", show_header=False, box=None)
    for name, value in known.items():
        each = value.items() if isinstance(value, Mapping) else [("", value)]
        for number, (key, entry) in enumerate(each):
            table.add_row(name if number == 0 else "", Text(f"{key} {entry}".strip()))
    return table


def _table(found: Sequence[Timing]) -> Table:
    table = Table(*(name.replace("_", " ") for name in Timing._fields), title="seconds of a design")
    for each in found:
        table.add_row(each.solver, f"{each.unknowns:,}", *(f"{seconds:.3f}" for seconds in each[2:]))
    return table
