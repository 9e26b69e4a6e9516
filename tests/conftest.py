"""Tests run in a process for every core, so that the BLAS of NumPy and SciPy takes one thread in each.

Tests with the marker ``gpu`` are skipped where there is none.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported, which tests do later

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        from tests.gpu import require_gpu

        require_gpu()
