"""Whether femadj works on this machine: ``femadj doctor``."""

from __future__ import annotations

from femadj.doctor.checks import Check, Examination
from femadj.doctor.examine import examined
from femadj.doctor.machine import machine

__all__ = ["Check", "Examination", "examined", "machine"]
