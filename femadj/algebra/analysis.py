"""The symbolic analysis of a structure, kept for as long as it fits, and how often the expensive things were done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from femadj.base.arrays import FloatArray
from femadj.progress import Phases
from femadj.solvers.base import Solver, Symbolic
from femadj.solvers.factor import Factor
from femadj.solvers.matrix import MatrixKind
from femadj.solvers.structure import CsrPattern
from femadj.solvers.unknowns import PLAIN, Unknowns


@dataclass(frozen=True)
class Counts:
    """How often the expensive things were done.

    Attributes
    ----------
    analyses : int
        Symbolic analyses.
    factorisations : int
        Numeric factorisations, in any precision, and set-ups of multigrid, which take their place.
    """

    analyses: int
    factorisations: int


class Analysis:
    """Analyses a structure at its first use, and again when it is another one."""

    def __init__(self, solver: Solver, kind: MatrixKind, unknowns: Unknowns = PLAIN) -> None:
        self._solver = solver
        self._kind: MatrixKind = kind
        self._unknowns = unknowns
        self._symbolic: Symbolic | None = None
        self._before = Counts(0, 0)

    @property
    def n(self) -> int | None:
        """Number of unknowns; None before the first structure."""
        return None if self._symbolic is None else self._symbolic.pattern.n

    @property
    def solver_name(self) -> str:
        """What solves: what was chosen for the structure, once there is one."""
        chosen = "" if self._symbolic is None else self._symbolic.name
        return chosen or self._solver.name

    @property
    def needed_bytes(self) -> int | None:
        """Memory that a factor takes on the last structure; None before there is one, and where solvers do not tell."""
        return None if self._symbolic is None else self._symbolic.needed_bytes

    @property
    def counts(self) -> Counts:
        """Analyses and factorisations so far."""
        if self._symbolic is None:
            return self._before
        return Counts(
            self._before.analyses + self._symbolic.analyses,
            self._before.factorisations + self._symbolic.factorisations,
        )

    def prepare_kernels(self, n_modes: int) -> None:
        """Compile the kernels of what was chosen for the last structure."""
        if self._symbolic is not None:
            self._symbolic.prepare(n_modes)

    def prepare(self, pattern: CsrPattern, phases: Phases) -> Symbolic:
        """Analyse a structure unless it is the last one."""
        if self._symbolic is None or self._symbolic.pattern is not pattern:
            with phases("analyse"):
                symbolic = self._solver.analyse(pattern, self._kind, unknowns=self._unknowns)
            if self._symbolic is not None:
                self._before = self.counts
                self._symbolic.close()
            self._symbolic = symbolic
        return self._symbolic

    def factor(
        self,
        pattern: CsrPattern,
        values: FloatArray,
        phases: Phases,
        *,
        rounding: float,
        modes: Callable[[], FloatArray | None] | None = None,
    ) -> Factor:
        """Factorise a matrix; its entries are right to ``rounding``, relative to their size."""
        symbolic = self.prepare(pattern, phases)
        with phases("factorise"):
            return symbolic.factor(values, rounding=rounding, modes=modes)
