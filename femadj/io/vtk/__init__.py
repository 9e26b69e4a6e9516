"""VTK's files of unstructured grids: VTU (XML) and the legacy format.

Read here and not by meshio, which reads the first of several pieces without a word, asserts on versions, and knows
neither LZ4, 64-bit arrays nor the newer cells.
"""

from femadj.io.vtk.legacy import is_structured, read_legacy
from femadj.io.vtk.xml import read_vtu

__all__ = ["is_structured", "read_legacy", "read_vtu"]
