"""Factors of SuperLU in single precision, as preconditioners."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.sparse as sp

from femadj.errors import ApproximationError
from femadj.solvers import MatrixKind
from femadj.solvers.matrix import UNIT_ROUNDOFF, Matrix, Structure
from femadj.solvers.superlu_single import SinglePrecisionFactor, SinglePrecisionSuperLU
from tests.solvers.conformance import advection_diffusion, handed_over, laplacian, shifted

MATRICES = {
    "spd": sp.csr_array(1e40 * laplacian(12)),
    "symmetric": shifted(12, 0.5),
    "general": sp.csr_array(1e-40 * advection_diffusion(12, 3.0)),
}


def made(matrix: sp.csr_array, kind: MatrixKind) -> SinglePrecisionFactor:
    pattern, values = handed_over(matrix, kind)
    structure = Structure(pattern, kind)
    return SinglePrecisionSuperLU(structure).make(Matrix(structure, values, UNIT_ROUNDOFF))


@pytest.mark.parametrize("kind", get_args(MatrixKind))
@pytest.mark.parametrize("transposed", [False, True])
def test_corrections_converge(kind: MatrixKind, transposed: bool) -> None:
    """Each takes most of seven digits off the error, whatever the units are."""
    matrix = MATRICES[kind]
    factor = made(matrix, kind)
    whole = matrix.T if transposed else matrix
    known = np.random.default_rng(0).standard_normal((144, 3))
    b, x, errors = whole @ known, np.zeros((144, 3)), []
    for _ in range(4):
        x += factor.apply(np.ascontiguousarray(b - whole @ x), transposed=transposed)
        errors.append(np.abs(x - known).max())
    assert 1e-9 < errors[0] < 1e-3  # of single precision, indeed
    assert errors[-1] < 1e-11
    alone = factor.apply(np.ascontiguousarray(b[:, 1:2]), transposed=transposed)
    assert np.array_equal(alone[:, 0], factor.apply(b, transposed=transposed)[:, 1])
    assert factor.nbytes > 8 * matrix.nnz
    assert factor.seconds > 0.0
    factor.close()
    with pytest.raises(ApproximationError, match="closed"):
        factor.apply(b, transposed=transposed)


@pytest.mark.parametrize(
    ("matrix", "kind", "said"),
    [
        (shifted(12, 0.5), "spd", "pivot of unknown"),
        (sp.csr_array(np.ones((2, 2))), "general", "pivot is zero"),
    ],
)
def test_refuses(matrix: sp.csr_array, kind: MatrixKind, said: str) -> None:
    with pytest.raises(ApproximationError, match=said):
        made(matrix, kind)
