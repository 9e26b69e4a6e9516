"""Kernels on disk are an extra: nothing that befalls the files stops a run or changes a number."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

import femadj as fa
from femadj.errors import KernelCacheWarning
from femadj.kernels import compile
from femadj.kernels.compile import Kernel, compiled, read, write

resource = pytest.importorskip("resource")  # file sizes are limited in the way of POSIX systems


def tripled(a, out):  # type: ignore[no-untyped-def]
    for i in range(len(a)):
        out[i] = 3 * a[i]


def halved(a, out):  # type: ignore[no-untyped-def]
    for i in range(len(a)):
        out[i] = a[i] / 2


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for kernels, in a process that has not warned yet."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    for said in (compile._warn, compile._say_once):
        said.cache_clear()
    yield tmp_path
    for said in (compile._warn, compile._say_once):
        said.cache_clear()


def run(body: Callable[..., None] = tripled, factor: float = 3.0) -> None:
    """A kernel as a new process would have it, and its result."""
    kernel: Kernel = compiled(read("float64", 1), write("float64", 1))(body)
    out = np.zeros(4)
    kernel(np.arange(4.0), out)
    assert out.tolist() == (factor * np.arange(4.0)).tolist()


def heard(*bodies: tuple[Callable[..., None], float]) -> list[str]:
    """What running warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for body, factor in bodies or ((tripled, 3.0),):
            run(body, factor)
    assert all(issubclass(w.category, KernelCacheWarning) for w in caught)
    return [str(w.message) for w in caught]


def file(folder: Path, suffix: str) -> Path:
    (found,) = folder.glob(f"**/*{suffix}")
    return found


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    """One bit of the code is another."""
    place = len(data) // 2
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def of_another_processor(data: bytes) -> bytes:
    (_, cpu, features), digest, code = pickle.loads(data)
    return pickle.dumps((("mips", cpu, features), digest, code))


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".nbi", truncated),
        (".nbi", lambda data: b""),
        (".nbi", lambda data: b"\x00" * len(data)),
        (".nbc", truncated),
        (".nbc", lambda data: b""),
        (".nbc", lambda data: b"no pickle at all"),
        (".nbc", flipped),
        (".nbc", of_another_processor),
    ],
)
def test_a_damaged_file_is_compiled_and_written_anew(
    folder: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    assert heard() == []
    path = file(folder, suffix)
    path.write_bytes(damage(path.read_bytes()))
    (said,) = heard()
    assert "cannot be read" in said
    assert str(path.parent) in said
    compile._say_once.cache_clear()
    assert heard() == []  # it is whole again
    assert compile._say_once.cache_info().currsize == 0  # and read, not compiled


def test_one_warning_for_many_damaged_files(folder: Path) -> None:
    both = ((tripled, 3.0), (halved, 0.5))
    assert heard(*both) == []
    for path in folder.glob("**/*.nbc"):
        path.write_bytes(b"")
    assert len(heard(*both)) == 1


def test_an_index_that_may_be_neither_read_nor_replaced(folder: Path) -> None:
    assert heard() == []
    path = file(folder, ".nbi")
    path.unlink()
    path.mkdir()  # stands for a file of another user; the tests may run as root, who may read anything
    said = heard()
    assert ["cannot be read" in text for text in said] == [True, False]
    assert "cannot be kept" in said[1]


def test_no_place_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile._Kept, "_locator_classes", [])
    (said,) = heard((tripled, 3.0), (halved, 0.5))
    assert "NUMBA_CACHE_DIR" in said


def test_a_full_disk(folder: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))  # no file may be longer
    try:
        (said,) = heard((tripled, 3.0), (halved, 0.5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot be kept" in said
    assert not [path for path in folder.glob("**/*") if path.is_file()]  # nothing half-written is left
    assert heard() == []
    assert file(folder, ".nbc").stat().st_size > 64


def test_two_writers(folder: Path) -> None:
    code = (
        "import femadj as fa, warnings; warnings.simplefilter('error'); "
        "print(fa.Mesh([[0, 0], [1, 0], [0, 1.]], {'triangle': [[0, 1, 2]]}).volume())"
    )
    own = {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(Path(fa.__file__).parents[1])}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | own,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(process: subprocess.Popen[str]) -> str:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert float(out) == 0.5
        return err

    for process in [start(), start()]:
        assert finish(process).count("\n") <= 1
    assert finish(start()) == ""  # from disk: nothing to wait for, nothing to say


def test_one_line_says_that_kernels_are_compiled(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "femadj"):
        run(tripled)
        run(halved, 0.5)
        (record,) = caplog.records
        assert str(folder) in record.getMessage()
        compile._say_once.cache_clear()
        caplog.clear()
        run(tripled)
        assert not caplog.records


def test_kernels_are_kept_where_numba_says(folder: Path) -> None:
    run()
    assert file(folder, ".nbi").name.startswith(f"test_kernel_cache.tripled_{compile.checksum(__name__)}")
