"""The documentation tells the truth: its code runs, the tests and files that it names exist."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def code_blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])
def test_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "meshes", tmp_path / "meshes")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    missing = []
    for number, block in enumerate(code_blocks(page, "python")):
        needed = re.match(r"# needs (\w+)\n", block)
        if needed is not None and importlib.util.find_spec(needed[1]) is None:
            missing.append(needed[1])
            continue
        exec(compile(block, f"{page.name}, block {number + 1}", "exec"), names)
    if missing:
        pytest.skip(f"all other code ran; blocks that need {', '.join(missing)} did not: not installed")


def test_an_optimisation_takes_twenty_lines() -> None:
    """Free-form box, two responses, MMA, history and resume; that it runs is tested with its page."""
    example = next(block for block in code_blocks(ROOT / "docs" / "optimisation.md", "python") if "MMA" in block)
    for part in ("FreeFormBox", "Compliance", "Volume", "minimise_nlopt", "plot", "Reduced.resume"):
        assert part in example
    assert len([line for line in example.splitlines() if line and not line.startswith("#")]) <= 20


def test_jax_and_torch_take_five_lines() -> None:
    blocks = code_blocks(ROOT / "docs" / "optimisation.md", "python")
    for name in ("jax", "torch"):
        (block,) = (b for b in blocks if b.startswith(f"# needs {name}\n"))
        assert f"fa.{name}_function(run)" in block
        assert len([line for line in block.splitlines() if line and not line.startswith("#")]) <= 5


def test_named_tests_exist() -> None:
    functions: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        functions[file.name] = {n.name for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)}
    everything = set().union(*functions.values())
    missing = []
    for page in PAGES:
        text = page.read_text()
        missing += [f"{page.name}: {f}" for f in re.findall(r"\b(test_\w+\.py)", text) if f not in functions]
        missing += [f"{page.name}: {t}" for t in re.findall(r"::(test_\w+)", text) if t not in everything]
    assert not missing


def test_linked_files_exist() -> None:
    missing = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                missing.append(f"{page.name}: {target}")
    assert not missing


def test_readme_has_two_commands_and_a_short_example() -> None:
    commands = [line for block in code_blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    assert [c.startswith("python3 -m venv .venv && ") for c in commands[:2]] == [True, True]
    assert "cases/bracket.py" in commands[0]
    assert "pytest" in commands[1]
    example = code_blocks(ROOT / "README.md", "python")[0]
    assert len(example.splitlines()) < 20


def test_continuous_integration_runs_the_readme_command() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    found = subprocess.run(
        ["grep", "-m1", "^python3 -m venv .*pytest", "README.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "grep -m1 '^python3 -m venv .*pytest' README.md" in script
    assert found.stdout.strip().endswith("-m pytest")
