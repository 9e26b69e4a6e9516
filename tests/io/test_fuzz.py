"""Damaged files: 2 000 mutants a reader, from which nothing but a mesh or an error of femadj comes, in bounded time."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from femadj.errors import FemadjError
from femadj.io import read_mesh_with_report
from tests.io.samples import BY_MESHIO, samples

MUTANTS = 2000
SLOWEST = 20.0
"""Seconds for a file of some kilobytes: what takes longer hangs, or grows out of bounds."""

TOKENS = (
    b"0", b"-1", b"1e999", b"nan", b"99999999999999999999", b"9" * 5000, b"2147483648", b"400000000", b"4.7", b"", b",",
    b"*", b"**", b"$", b"\n", b"\t", b"\0", b"\xff", b"\x85", b"\r", b"+", b"THRU", b"GENERATE",
    b"INCLUDE 'fuzz.bdf'\n", b"1e300",
    b"*INCLUDE, INPUT=fuzz.inp\n", b"$End", b"<Piece>", b"vtktypeint64", b"1 2 3 4 5 6 7 8 9",
)  # fmt: skip

Change = Callable[[np.random.Generator, bytes], bytes]


def _byte(rng: np.random.Generator, data: bytes) -> bytes:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]


def _cut(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: int(rng.integers(1, len(data)))]


def _hole(rng: np.random.Generator, data: bytes) -> bytes:
    a, b = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:a] + data[min(b, a + 200) :]


def _token(rng: np.random.Generator, data: bytes) -> bytes:
    words = list(re.finditer(rb"[^\s,]+", data))
    word = words[int(rng.integers(len(words)))]
    return data[: word.start()] + TOKENS[int(rng.integers(len(TOKENS)))] + data[word.end() :]


def _number(rng: np.random.Generator, data: bytes) -> bytes:
    words = list(re.finditer(rb"\d+", data))
    word = words[int(rng.integers(len(words)))]
    return data[: word.start()] + str(int(rng.integers(0, 20))).encode() + data[word.end() :]


def _lines(rng: np.random.Generator, data: bytes) -> bytes:
    rows = data.split(b"\n")
    a, b = rng.integers(0, len(rows), 2).tolist()
    kind = int(rng.integers(3))
    if kind == 0:
        rows[a], rows[b] = rows[b], rows[a]
    elif kind == 1:
        rows.insert(a, rows[b])
    else:
        del rows[a]
    return b"\n".join(rows)


CHANGES: tuple[Change, ...] = (_byte, _cut, _hole, _token, _token, _number, _number, _lines, _lines)


def mutants(files: list[bytes], count: int, seed: int) -> list[bytes]:
    """Files with one to three changes each."""
    rng = np.random.default_rng(seed)
    result = []
    for k in range(count):
        data = files[k % len(files)]
        for _ in range(int(rng.integers(1, 4))):
            if len(data) > 8 and re.search(rb"\d", data) and re.search(rb"[^\s,]", data):
                data = CHANGES[int(rng.integers(len(CHANGES)))](rng, data)
        result.append(data)
    return result


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # meshio leaves files open that it cannot parse
@pytest.mark.parametrize("suffix", [".inp", ".bdf", ".msh", ".vtu", ".vtk", ".e", *BY_MESHIO])
def test_mutants(tmp_path: Path, suffix: str) -> None:
    files = samples(tmp_path)[suffix]
    for number, data in enumerate(files):
        whole = tmp_path / f"whole{number}{suffix}"
        whole.write_bytes(data)
        mesh, _ = read_mesh_with_report(whole)
        assert mesh.n_cells > 0
    file = tmp_path / f"fuzz{suffix}"
    read = 0
    for number, data in enumerate(mutants(files, MUTANTS, seed=20)):
        file.unlink(missing_ok=True)  # a new file is made faster than an old one is emptied
        file.write_bytes(data)
        start = time.perf_counter()
        try:
            read_mesh_with_report(file)
            read += 1
        except FemadjError:
            pass
        except Exception as error:
            keep = tmp_path / f"mutant{number}{suffix}"
            keep.write_bytes(data)
            pytest.fail(f"mutant {number}, kept as {keep}: {type(error).__name__}: {error}")
        assert time.perf_counter() - start < SLOWEST, f"mutant {number} takes too long"
    gc.collect()  # such files are closed now, and not while another test runs
    assert 0.02 * MUTANTS < read < 0.9 * MUTANTS  # the changes neither all fail at once nor all go unseen
