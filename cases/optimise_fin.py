"""The fin of ``own_pde.py`` cut to shape: least material for as much heat, two optimisers side by side.

      ________________
     |                 -------________     air along x: its film is thinnest where it arrives
     |       _                        |
     |      (_)  tube                 |    The three free edges move, node by node, the leading one in its line;
     |                 _______--------     a Helmholtz filter of radius 20 mm smooths what they are told and takes
     |________---------                    the inside along. The tube stays as it is.

Units: mm, s, K, mW.
"""

import sys
from pathlib import Path

import femadj as fa
from femadj.case import Run
from femadj.design_case import DesignCase, main

sys.path.insert(0, str(Path(__file__).resolve().parent))

import own_pde

RADIUS, MOST = 20.0, 300.0
"""Of the filter; and how far a node may be told to go, which the filter spreads over all around it."""


def problem(run: Run) -> fa.LinearStatic:
    """The fin: forms of one's own for conduction, the films on the faces and on the tube."""
    return own_pde.problem(run)


def parametrisation(fin: fa.LinearStatic) -> fa.Parametrisation:
    """Both components of all nodes on the edges, but for the leading edge, which stays in its line."""
    line = fa.Fixed("inlet", "x")
    nodes = fa.FreeNodes(fin.mesh, ["inlet", "outlet", "walls"], fixed=line, bounds=(-MOST, MOST))
    return nodes >> fa.HelmholtzFilter(fin.mesh, RADIUS, fixed=["cylinder", line])


CASE = DesignCase(
    "optimise_fin",
    __doc__,
    problem,
    parametrisation,
    fa.Objective(fa.Volume(), "area"),
    (fa.AtLeast(own_pde.HEAT, 2982.0, name="heat"),),
    ("mm²", "mW"),
    {
        "MMA": lambda reduced, designs: fa.minimise_nlopt(reduced, "MMA", max_designs=designs),
        "SLSQP": lambda reduced, designs: fa.minimise_scipy(reduced, "SLSQP", max_designs=designs),
    },
    designs=21,
    scales=3000.0,
    length_unit="mm",
    title="Fin on a tube",
    labels={"cylinder": "tube", "inlet": "air"},
    lines=("temperature", lambda solution: solution.u[:, 0]),
)

if __name__ == "__main__":
    raise SystemExit(main(CASE))
