"""Make the meshes of this folder: ``python meshes/make.py [name ...] [--into FOLDER]``. Needs gmsh (extra ``dev``)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gmsh
import numpy as np

HERE = Path(__file__).resolve().parent


@contextmanager
def model(name: str) -> Iterator[None]:
    """A fresh Gmsh model with settings that give the same mesh every time."""
    gmsh.initialize(readConfigFiles=False, interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("General.NumThreads", 1)
        gmsh.option.setNumber("Mesh.RandomSeed", 1)
        gmsh.model.add(name)
        yield
    finally:
        gmsh.finalize()


def surfaces_where(selected: Callable[[np.ndarray, np.ndarray], bool]) -> list[int]:
    """Tags of the surfaces whose bounding box (lowest, highest corner) is selected."""
    found = []
    for dim, tag in gmsh.model.getEntities(2):
        box = np.array(gmsh.model.getBoundingBox(dim, tag))
        if selected(box[:3], box[3:]):
            found.append(tag)
    return found


def near(value: float, target: float) -> bool:
    """Equal up to the margin that Gmsh adds to bounding boxes."""
    return abs(value - target) < 1e-4


def refine(surfaces: list[int], size: float, reach: float, coarse: float) -> int:
    """Size field: ``size`` at the surfaces, growing to ``coarse`` at a distance of ``reach``."""
    field = gmsh.model.mesh.field
    distance = field.add("Distance")
    field.setNumbers(distance, "SurfacesList", surfaces)
    field.setNumber(distance, "Sampling", 40)
    threshold = field.add("Threshold")
    field.setNumber(threshold, "InField", distance)
    field.setNumber(threshold, "SizeMin", size)
    field.setNumber(threshold, "SizeMax", coarse)
    field.setNumber(threshold, "DistMin", 0.5 * size)
    field.setNumber(threshold, "DistMax", reach)
    return int(threshold)


def bracket(path: Path) -> None:
    """L-bracket (mm): wall plate 8 x 80 x 50, arm 90 x 10 x 50, fillet of radius 8, four bolt holes, one in the arm."""
    wall, height, width, length, arm, radius = 8.0, 80.0, 50.0, 90.0, 10.0, 8.0
    bolt, bore = 4.5, 5.0
    with model("bracket"):
        occ = gmsh.model.occ
        outline = [(0, 0), (length, 0), (length, arm), (wall + radius, arm), (wall, arm + radius), (wall, height),
                   (0, height)]  # fmt: skip
        p = [occ.addPoint(x, y, 0) for x, y in outline]
        centre = occ.addPoint(wall + radius, arm + radius, 0)
        lines = [
            occ.addCircleArc(p[i], centre, p[i + 1]) if i == 3 else occ.addLine(p[i], p[(i + 1) % len(p)])
            for i in range(len(p))
        ]
        face = occ.addPlaneSurface([occ.addCurveLoop(lines)])
        body = [e for e in occ.extrude([(2, face)], 0, 0, width) if e[0] == 3]
        holes = [(3, occ.addCylinder(-1, y, z, wall + 2, 0, 0, bolt)) for y in (36, 66) for z in (13, 37)]
        holes.append((3, occ.addCylinder(58, -1, width / 2, 0, arm + 2, 0, bore)))
        body, _ = occ.cut(body, holes)
        pad = occ.addRectangle(length - 16, 0, 0, 16, width)
        occ.rotate([(2, pad)], length - 16, 0, 0, 1, 0, 0, np.pi / 2)
        occ.translate([(2, pad)], 0, arm, 0)
        occ.fragment(body, [(2, pad)])
        occ.synchronize()

        def flat(axis: int, at: float) -> Callable[[np.ndarray, np.ndarray], bool]:
            return lambda low, high: near(low[axis], at) and near(high[axis], at)

        clamp = surfaces_where(flat(0, 0.0))
        pads = surfaces_where(lambda a, b: flat(1, arm)(a, b) and near(a[0], length - 16))
        fillet = surfaces_where(
            lambda a, b: near(a[0], wall) and near(b[0], wall + radius) and near(b[1], arm + radius)
        )
        bolts = surfaces_where(lambda a, b: near(b[1] - a[1], 2 * bolt) and near(b[2] - a[2], 2 * bolt))
        bores = surfaces_where(lambda a, b: near(b[0] - a[0], 2 * bore) and near(b[2] - a[2], 2 * bore))
        group(2, {"clamp": clamp, "pad": pads, "fillet": fillet, "holes": bolts + bores})
        group(3, {"steel": [tag for _, tag in gmsh.model.getEntities(3)]})

        field = gmsh.model.mesh.field
        smallest = field.add("Min")
        coarse = 4.8
        field.setNumbers(
            smallest,
            "FieldsList",
            [refine(fillet, 2.0, 20, coarse), refine(bolts, 2.5, 15, coarse), refine(bores, 2.5, 15, coarse)],
        )
        field.setAsBackgroundMesh(smallest)
        for option in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
            gmsh.option.setNumber(f"Mesh.{option}", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.option.setNumber("Mesh.Smoothing", 10)
        gmsh.model.mesh.generate(3)
        for _ in range(2):  # the two take turns: the first swaps and splits, the second moves nodes
            gmsh.model.mesh.optimize("Netgen")
            gmsh.model.mesh.optimize("Relocate3D")
        gmsh.model.mesh.optimize("")
        gmsh.model.mesh.setOrder(2)
        save(path, 4.1)


def plate_with_hole(path: Path) -> None:
    """Quarter of a plate 40 x 40 with a hole of radius 1: quad8 around the hole, triangle6 beyond."""
    radius, ring, half = 1.0, 3.0, 20.0
    around, layers, growth = 24, 16, 1.12
    with model("plate_with_hole"):
        geo = gmsh.model.geo
        origin = geo.addPoint(0, 0, 0)
        a, b = geo.addPoint(radius, 0, 0), geo.addPoint(0, radius, 0)
        c, d = geo.addPoint(ring, 0, 0), geo.addPoint(0, ring, 0)
        e, f, g = geo.addPoint(half, 0, 0), geo.addPoint(half, half, 0), geo.addPoint(0, half, 0)
        hole, rim = geo.addCircleArc(a, origin, b), geo.addCircleArc(c, origin, d)
        bottom, left = geo.addLine(a, c), geo.addLine(b, d)
        far_bottom, right, top, far_left = (
            geo.addLine(c, e), geo.addLine(e, f), geo.addLine(f, g), geo.addLine(g, d),
        )  # fmt: skip
        inner = geo.addPlaneSurface([geo.addCurveLoop([bottom, rim, -left, -hole])])
        outer = geo.addPlaneSurface([geo.addCurveLoop([far_bottom, right, top, far_left, -rim])])
        for curve in (hole, rim):
            geo.mesh.setTransfiniteCurve(curve, around + 1)
        for curve in (bottom, left):
            geo.mesh.setTransfiniteCurve(curve, layers + 1, "Progression", growth)
        geo.mesh.setTransfiniteSurface(inner, cornerTags=[a, c, d, b])
        geo.mesh.setRecombine(2, inner)
        geo.synchronize()
        group(1, {"left": [left, far_left], "bottom": [bottom, far_bottom], "right": [right], "top": [top],
                  "hole": [hole]})  # fmt: skip
        group(2, {"ring": [inner], "plate": [outer]})
        field = gmsh.model.mesh.field
        grading = field.add("MathEval")
        field.setString(grading, "F", f"{np.pi / 2 * ring / around} + 0.13 * (Sqrt(x*x + y*y) - {ring})")
        field.setAsBackgroundMesh(grading)
        for option in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
            gmsh.option.setNumber(f"Mesh.{option}", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.option.setNumber("Mesh.SecondOrderIncomplete", 1)
        gmsh.model.mesh.generate(2)
        gmsh.model.mesh.setOrder(2)
        save(path, 2.2)


def cylinder_in_channel(path: Path) -> None:
    """Cylinder of diameter 5 across a plane channel 60 x 20 (mm), half a millimetre below its axis: triangle6."""
    length, height, radius, (x, y) = 60.0, 20.0, 2.5, (20.0, 9.5)
    around, wall, coarse = 36, 1.0, 2.0
    with model("cylinder_in_channel"):
        geo = gmsh.model.geo
        p = [geo.addPoint(*at, 0) for at in ((0, 0), (length, 0), (length, height), (0, height))]
        bottom, outlet, top, inlet = (geo.addLine(p[i], p[(i + 1) % 4]) for i in range(4))
        centre = geo.addPoint(x, y, 0)
        q = [geo.addPoint(x + a * radius, y + b * radius, 0) for a, b in ((1, 0), (0, 1), (-1, 0), (0, -1))]
        arcs = [geo.addCircleArc(q[i], centre, q[(i + 1) % 4]) for i in range(4)]
        outer, hole = geo.addCurveLoop([bottom, outlet, top, inlet]), geo.addCurveLoop(arcs)
        fluid = geo.addPlaneSurface([outer, hole])
        for arc in arcs:
            geo.mesh.setTransfiniteCurve(arc, around // 4 + 1)
        geo.synchronize()
        group(1, {"inlet": [inlet], "outlet": [outlet], "walls": [bottom, top], "cylinder": arcs})
        group(2, {"fluid": [fluid]})
        field = gmsh.model.mesh.field
        at_cylinder, at_walls, grading = field.add("MathEval"), field.add("MathEval"), field.add("Min")
        fine = 2 * np.pi * radius / around
        from_centre = f"(x - {x}) * (x - {x}) + (y - {y}) * (y - {y})"
        field.setString(at_cylinder, "F", f"{fine} + 0.18 * (Sqrt({from_centre}) - {radius})")
        beside = f"1 / (1 + 0.01 * (x - {x}) * (x - {x}))"  # one beside the cylinder, where the gaps are
        field.setString(at_walls, "F", f"{coarse} - {coarse - wall} * {beside}")
        field.setNumbers(grading, "FieldsList", [at_cylinder, at_walls])
        field.setAsBackgroundMesh(grading)
        for option in ("MeshSizeExtendFromBoundary", "MeshSizeFromPoints", "MeshSizeFromCurvature"):
            gmsh.option.setNumber(f"Mesh.{option}", 0)
        gmsh.option.setNumber("Mesh.Algorithm", 6)
        gmsh.model.mesh.generate(2)
        gmsh.model.mesh.setOrder(2)
        save(path, 4.1)


def group(dim: int, members: dict[str, list[int]]) -> None:
    """Name physical groups; an empty one is a mistake in the selection."""
    for name, tags in members.items():
        if not tags:
            raise RuntimeError(f"no entities for the group {name!r}")
        gmsh.model.addPhysicalGroup(dim, tags, name=name)


def save(path: Path, version: float) -> None:
    """Write the model as ASCII."""
    gmsh.option.setNumber("Mesh.MshFileVersion", version)
    gmsh.option.setNumber("Mesh.Binary", 0)
    gmsh.write(str(path))


def heat_sink(path: Path) -> None:
    """Heat sink (mm) for Abaqus and CalculiX: base 50 x 6 x 50, seven fins 2 x 24 x 50, hexahedra.

    Fins stand along z. Ids leave gaps, as they do in files that have grown: nodes of the base count from 1001, those
    of the fins from 20001, elements from 101 and 50001.
    """
    fins, thick, gap = 7, 2, 3  # columns in a fin (1 mm each) and between two fins (2 mm each)
    base, rise, deep = 4, 12, 25  # layers of the base (1.5 mm) and of the fins (2 mm), and rows along z (2 mm)
    columns = fins * thick + (fins - 1) * gap
    x = np.append(0.0, np.cumsum(np.where(np.arange(columns) % (thick + gap) < thick, 1.0, 2.0)))
    y = np.concatenate([np.arange(base + 1) * 1.5, base * 1.5 + np.arange(1, rise + 1) * 2.0])
    of_fin = np.arange(columns) % (thick + gap) < thick

    cells = np.zeros((columns, base + rise, deep), dtype=bool)
    cells[:, :base] = True
    cells[of_fin] = True
    i, j, k = np.nonzero(cells)
    corners = [(0, 0, 0), (0, 0, 1), (1, 0, 1), (1, 0, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1), (1, 1, 0)]
    shape = (columns + 1, base + rise + 1, deep + 1)
    table = np.stack([np.ravel_multi_index((i + a, j + b, k + c), shape) for a, b, c in corners], axis=1)
    used = np.unique(table)
    at = np.stack(np.unravel_index(used, shape), axis=1)
    in_base = at[:, 1] <= base
    ids = np.where(in_base, 1000 + np.cumsum(in_base), 20000 + np.cumsum(~in_base))
    order = np.argsort(ids)
    number = np.zeros(np.prod(shape), dtype=np.int64)
    number[used] = ids
    plate = j < base
    elements = np.where(plate, 100 + np.cumsum(plate), 50000 + np.cumsum(~plate))

    # S1 is the face of the first four corners (y low), S2 that of the last four, S3 x low, S5 x high
    first, last = of_fin & ~np.roll(of_fin, 1), of_fin & ~np.roll(of_fin, -1)
    first[0], last[-1] = True, True
    faces = {
        "_base_S1": elements[j == 0],
        "_tips_S2": elements[j == base + rise - 1],
        "_fins_S3": elements[~plate & first[i]],
        "_fins_S5": elements[~plate & last[i]],
    }
    with path.open("w", encoding="ascii", newline="\n") as file:
        write = file.write
        write("*HEADING\nHeat sink, 50 x 30 x 50 mm, seven fins. Units: mm, tonne, s, K (mW, N)\n")
        write("**\n** Nodes: 1001... base plate, 20001... fins\n**\n*NODE, NSET=ALL_NODES\n")
        for n, (a, b, c) in zip(ids[order], at[order], strict=True):
            write(f"{n:7d}, {x[a]:10.4f}, {y[b]:10.4f}, {2.0 * c:10.4f}\n")
        for name, chosen in (("BASE_PLATE", plate), ("FINS", ~plate)):
            write(f"*ELEMENT, TYPE=C3D8, ELSET={name}\n")
            for e, row in zip(elements[chosen], number[table[chosen]], strict=True):
                write(f"{e:6d}, " + ", ".join(str(n) for n in row) + "\n")
        write("*ELSET, ELSET=ALL\nBASE_PLATE, FINS\n")
        for name, members in faces.items():
            write(f"*ELSET, ELSET={name}, INTERNAL\n" + rows_of_16(members))
        write("** corner of the base plate, for a temperature sensor\n*NSET, NSET=SENSOR\n1001\n")
        for name, parts in (("base", ["S1"]), ("tips", ["S2"]), ("fins", ["S3", "S5"])):
            write(f"*SURFACE, NAME={name}, TYPE=ELEMENT\n")
            write("".join(f"_{name}_{face}, {face}\n" for face in parts))
        write("** Conductivity in mW/(mm K): copper base, aluminium fins\n")
        for name, section, value in (("COPPER", "BASE_PLATE", 390.0), ("ALUMINIUM", "FINS", 200.0)):
            write(f"*MATERIAL, NAME={name}\n*CONDUCTIVITY\n{value},\n")
            write(f"*SOLID SECTION, ELSET={section}, MATERIAL={name}\n")


def rows_of_16(ids: Iterable[int]) -> str:
    """Ids as data lines of at most sixteen, the most that Abaqus takes."""
    words = [str(n) for n in ids]
    return "".join(", ".join(words[n : n + 16]) + "\n" for n in range(0, len(words), 16))


MESHES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "bracket": ("bracket.msh", bracket),
    "plate_with_hole": ("plate_with_hole.msh", plate_with_hole),
    "heat_sink": ("heat_sink.inp", heat_sink),
    "cylinder_in_channel": ("cylinder_in_channel.msh", cylinder_in_channel),
}


def main() -> None:
    """Make the meshes named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(MESHES)}; all when left out")
    parser.add_argument("--into", type=Path, default=HERE, help="folder to write to")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in MESHES]
    if unknown:
        parser.error(f"no mesh named {', '.join(unknown)}; there are {', '.join(MESHES)}")
    options.into.mkdir(parents=True, exist_ok=True)
    for name in options.names or MESHES:
        file, make = MESHES[name]
        make(options.into / file)
        print(f"{options.into / file}: {(options.into / file).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
