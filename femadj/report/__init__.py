"""What a run shows: progress, a table, a picture, and a summary as plain data."""

from femadj.report.caption import Caption
from femadj.report.curves import Panel, curves
from femadj.report.deformed import deformed_picture
from femadj.report.drawing import blank_figure, save_figure
from femadj.report.picture import picture
from femadj.report.progress import ProgressDisplay
from femadj.report.solid import View
from femadj.report.summary import Outcome, summary, write_summary
from femadj.report.table import print_table, results_console, run_table

__all__ = [
    "Caption",
    "Outcome",
    "Panel",
    "ProgressDisplay",
    "View",
    "blank_figure",
    "curves",
    "deformed_picture",
    "picture",
    "print_table",
    "results_console",
    "run_table",
    "save_figure",
    "summary",
    "write_summary",
]
