"""Guarded complex step for users' own derivatives: public names of ``femadj.base.complex_step``."""

from femadj.base.complex_step import STEP, Guarded, derivative, real_part, seed

__all__ = ["STEP", "Guarded", "derivative", "real_part", "seed"]
