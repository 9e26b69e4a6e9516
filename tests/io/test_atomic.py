"""Files appear whole or not at all, and what was there before stays until then."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import meshio
import numpy as np
import pytest

from femadj.errors import FemadjError, MeshFileError
from femadj.io import write_vtu
from femadj.io.atomic import complete_file
from femadj.mesh import Mesh
from femadj.report import write_summary

SQUARE = Mesh([[0, 0], [1, 0], [1, 1], [0, 1]], {"quad": [[0, 1, 2, 3]]})


def names(folder: Path) -> list[str]:
    """What a folder holds."""
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, MemoryError, OSError(28, "No space left")])
def test_failures_leave_nothing_and_destroy_nothing(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "new" / "a.json"
    target.parent.mkdir()
    target.write_text("old")
    expected = MeshFileError if isinstance(error, OSError) else error

    def write() -> None:
        with complete_file(target) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(expected):
        write()
    assert names(target.parent) == ["a.json"]
    assert target.read_text() == "old"


def test_names_are_random_and_new(tmp_path: Path) -> None:
    seen = set()
    for _ in range(20):
        with complete_file(tmp_path / "a.vtu") as partial:
            assert partial.parent == tmp_path
            assert partial.suffix == ".vtu"
            seen.add(partial.name)
    assert len(seen) == 20
    assert names(tmp_path) == ["a.vtu"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "a.json").symlink_to(precious)
    write_summary(tmp_path / "a.json", {"x": 1})
    assert precious.read_text() == "keep"
    assert not (tmp_path / "a.json").is_symlink()
    monkeypatch.setattr("secrets.token_hex", lambda n: "guessed")
    (tmp_path / ".guessed.part.vtu").symlink_to(precious)
    with pytest.raises(MeshFileError, match="cannot be written"):
        write_vtu(tmp_path / "a.vtu", SQUARE)
    assert precious.read_text() == "keep"
    assert not (tmp_path / "a.vtu").exists()


def test_permissions_are_those_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    written = write_summary(tmp_path / "a.json", {"x": 1})
    assert written.stat().st_mode == (tmp_path / "plain").stat().st_mode
    if os.name == "posix":
        written.chmod(0o640)
        write_summary(written, {"x": 2})
        assert written.stat().st_mode & 0o777 == 0o640


def test_writers_that_fail_halfway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_summary(tmp_path / "a.json", {"x": 1})
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_summary(tmp_path / "a.json", {"x": [1.0, float("nan")]})
    with pytest.raises(FemadjError, match="cannot be written"):
        write_summary(tmp_path / "a.json" / "b.json", {"x": 1})
    assert (tmp_path / "a.json").read_bytes() == before

    def half(path: Path, *args: object, **kwargs: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    write_vtu(tmp_path / "a.vtu", SQUARE, point_data={"T": np.arange(4.0)})
    before = (tmp_path / "a.vtu").read_bytes()
    monkeypatch.setattr(meshio, "write", half)
    with pytest.raises(MeshFileError, match="No space left"):
        write_vtu(tmp_path / "a.vtu", SQUARE)
    assert (tmp_path / "a.vtu").read_bytes() == before
    assert names(tmp_path) == ["a.json", "a.vtu"]
