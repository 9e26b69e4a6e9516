"""Tests run in a process for every core, so that the BLAS of NumPy and SciPy takes one thread in each."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is imported, which tests do later
