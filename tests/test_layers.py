"""Modules import downwards only, and never in a circle: kept by walking the imports of every file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import femadj

PACKAGE = Path(femadj.__file__).parent

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "progress"),
    ("base",),
    ("kernels",),
    ("mesh",),
    ("solvers", "io"),
    ("algebra", "space"),
    ("forms", "ode"),
    ("physics",),
    ("conditions",),
    ("problems",),
    ("responses",),
    ("sensitivity",),
    ("results", "report"),
    ("optimisation",),
    ("case", "doctor"),
    ("command", "design_case"),
)
"""Modules and folders of the package from the ground up. One may import from floors below its own, and within its own
folder; not from neighbours on the same floor."""

FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def place(path: Path) -> str:
    """Module or folder directly below the package that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def targets(path: Path) -> list[tuple[int, str, str]]:
    """Line, module or folder, and full name of everything a file imports from the package, wherever it does so."""
    package = ("femadj", *path.relative_to(PACKAGE).parent.parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += [node.module] if node.module else []
            # "from femadj import x" imports the module x, "from femadj.x import y" the module x
            names = [".".join([*base, alias.name]) for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "femadj":
                found.append((getattr(node, "lineno", 0), parts[1] if len(parts) > 1 else "", name))
    return found


def complaints(path: Path) -> list[str]:
    """What is wrong with the imports of a file."""
    here = place(path)
    where = path.relative_to(PACKAGE.parent)
    if here not in FLOOR:
        return [f"{where}: {here!r} has no floor yet: place it in FLOORS of {Path(__file__).name}"]
    result = []
    for line, there, name in targets(path):
        if there == here:
            continue
        if there not in FLOOR:
            result.append(
                f"{where}:{line}: {name} is not a module that has a floor (import from modules, not from the package; "
                f"place new modules in FLOORS of {Path(__file__).name})"
            )
        elif FLOOR[there] >= FLOOR[here]:
            result.append(
                f"{where}:{line}: {here} (floor {FLOOR[here]}) imports {name} from floor {FLOOR[there]}; only floors "
                "below are allowed"
            )
    return result


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_go_downwards(path: Path) -> None:
    assert not complaints(path), "\n".join(complaints(path))


def test_the_walk_sees_imports() -> None:
    seen = {(place(p), there) for p in FILES for _, there, _ in targets(p)}
    assert {("mesh", "kernels"), ("problems", "conditions"), ("kernels", "kernels"), ("problems", "solvers")} <= seen


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("from femadj.problems import LinearStatic", True),
        ("import femadj.problems", True),
        ("import femadj", True),
        ("from femadj import Mesh", True),
        ("def f():\n    from femadj.report import picture", True),
        ("from .problems import LinearStatic", True),
        ("from . import problems", True),
        ("from femadj.space.pattern import Pattern", True),  # a neighbour on the same floor
        ("from femadj.errors import FemadjError\nimport numpy", False),
        ("from .kernels.types import read", False),
    ],
)
def test_upward_imports_are_found(code: str, wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "femadj"
    folder.mkdir()
    (folder / "mesh.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.PACKAGE", folder)
    assert bool(complaints(folder / "mesh.py")) is wrong


def module_name(path: Path) -> str:
    """Full name of the module in a file; that of the package for its ``__init__``."""
    parts = ("femadj", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(files: list[Path]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other, directly or through others, wherever in the file they do so."""
    modules = {module_name(path): path for path in files}
    arrows: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for _, _, full in targets(path):
            known = full if full in modules else full.rpartition(".")[0]
            if known in modules and known != name:
                arrows[name].add(known)

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = arrows[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {name: reached(name) for name in modules}
    inside = [name for name in modules if name in reach[name]]
    return sorted({tuple(sorted(b for b in inside if b in reach[a] and a in reach[b])) for a in inside})


def test_no_modules_import_each_other() -> None:
    found = circles(FILES)
    assert not found, "\n".join(" <-> ".join(circle) for circle in found)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (("from femadj.forms import b", "import numpy", ""), []),
        (("from femadj.forms import b", "def f():\n    from femadj.forms.a import g", ""), [("a", "b")]),
        (("from femadj.forms.b import g", "from . import c", "import femadj.forms.a"), [("a", "b", "c")]),
        (("from femadj.forms.b import g", "from femadj.forms.c import h", "from .b import g"), [("b", "c")]),
    ],
)
def test_circles_inside_a_folder_are_found(
    codes: tuple[str, ...], expected: list[tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "femadj" / "forms"
    folder.mkdir(parents=True)
    files = [folder / f"{name}.py" for name in "abc"]
    for file, code in zip(files, codes, strict=True):
        file.write_text(code, encoding="utf-8")
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "femadj")
    named = [tuple(f"femadj.forms.{name}" for name in circle) for circle in expected]
    assert circles(files) == named


def test_no_name_stands_on_two_floors() -> None:
    names = [n for floor in FLOORS for n in floor]
    assert len(names) == len(set(names))
