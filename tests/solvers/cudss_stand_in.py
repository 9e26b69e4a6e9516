"""Stands in for the library of cuDSS on host memory: its functions by name, types, order of calls and answers.

Numbers are those of SuperLU. What cuDSS does with matrices that have no factor is not documented: it is an option here.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from femadj.solvers.cudss import SIGNATURES
from tests.host_arrays import HostArrays

SUCCESS, ALLOC_FAILED, INVALID, NOT_SUPPORTED = 0, 2, 3, 4
_INFO, _FILL, _REPLACED, _INERTIA, _ORDER, _DIAGONAL, _USER_ORDER, _MEMORY = 0, 1, 2, 3, 4, 8, 9, 13
_MATCHING, _MODE, _REFINEMENTS, _EPSILON, _DETERMINISTIC = 3, 4, 5, 9, 24
_DEFAULTS = {_MATCHING: 6, _MODE: 0, _REFINEMENTS: 0, 7: 0, _EPSILON: -1.0, 14: -1, _DETERMINISTIC: 0}
_ANALYSE, _FACTORISE, _AGAIN, _SOLVE = 3, 4, 8, 1008
_NUMBERS = {0: np.float32, 1: np.float64}
_SMALL = 900


class StandIn:
    """A library.

    Parameters
    ----------
    arrays : HostArrays
        Where pointers to the device have to point to.
    version : (int, int, int)
    broken : "flag", "silent" or "nan"
        What becomes of a matrix that is said to be positive definite and is not: a number of a pivot; nothing, so that
        pivots tell; or numbers that are none.
    singular : "replace", "flag" or "nan"
        What becomes of another matrix with a pivot that is too small, or zero but for rounding.
    diagonal : "pivots", "roots" or None
        What is told of pivots, those of definite matrices.
    inertia : bool
        Whether numbers of positive and negative pivots are told; else zeros are, as some versions did.
    careless : "again", "unmatched", "symmetric" or None
        Which factors of matrices that are not definite are none: those made again, those without matching, or all of
        symmetric ones.
    ignores_mode : bool
        Whether transposed solves are accepted and not done.
    forgets_order : bool
        Whether a second system on a given order solves wrongly.
    """

    def __init__(
        self,
        arrays: HostArrays,
        version: tuple[int, int, int] = (1, 0, 0),
        *,
        broken: str = "flag",
        singular: str = "replace",
        diagonal: str | None = "pivots",
        inertia: bool = True,
        careless: str | None = None,
        ignores_mode: bool = False,
        forgets_order: bool = False,
    ) -> None:
        self.arrays, self.version = arrays, version
        self.broken, self.singular, self.diagonal, self.inertia = broken, singular, diagonal, inertia
        self.careless = careless
        self.ignores_mode, self.forgets_order = ignores_mode, forgets_order
        self.capacity: int | None = None  # bytes that factors may take
        self.objects: dict[int, dict[str, Any]] = {}
        self.count = 0
        self.log: list[str] = []
        self.streams: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)
        own = getattr(self, f"_{name.removeprefix('cudss')}")

        def function(*given: Any) -> int:
            types = SIGNATURES[name]
            assert len(given) == len(types), f"{name} takes {len(types)} arguments"
            return own(*(_seen(value, kind) for value, kind in zip(given, types, strict=True)))

        return function

    def alive(self) -> Counter[str]:
        """How many objects of each kind there are."""
        return Counter(each["kind"] for each in self.objects.values())

    def _new(self, out: Any, kind: str, **content: Any) -> int:
        self.count += 1
        self.objects[self.count] = {"kind": kind, **content}
        out.value = self.count
        return SUCCESS

    def _of(self, handle: int | None, kind: str) -> dict[str, Any]:
        assert handle in self.objects, f"no {kind}: {handle}"
        assert self.objects[handle]["kind"] == kind, (self.objects[handle]["kind"], kind)
        return self.objects[handle]

    def _drop(self, handle: int | None, kind: str) -> int:
        self._of(handle, kind)
        del self.objects[handle or 0]
        return SUCCESS

    # ----------------------------------------------------------------------------- library, handle, settings
    def _GetProperty(self, which: int, out: Any) -> int:
        out.value = self.version[which]
        return SUCCESS

    def _Create(self, out: Any) -> int:
        return self._new(out, "handle")

    def _Destroy(self, handle: int) -> int:
        assert set(self.alive()) == {"handle"} or len(self.alive()) == 1 or self.alive()["handle"] > 1, self.alive()
        return self._drop(handle, "handle")

    def _SetStream(self, handle: int, stream: int) -> int:
        self.streams.add(stream)
        return SUCCESS

    def _SetThreadingLayer(self, handle: int, name: bytes) -> int:
        self._of(handle, "handle")["layer"] = name
        return SUCCESS

    def _ConfigCreate(self, out: Any) -> int:
        return self._new(out, "config", items=dict(_DEFAULTS))

    def _ConfigSet(self, config: int, item: int, value: Any, size: int) -> int:
        if item not in _DEFAULTS or size != (8 if item == _EPSILON else 4) or size != ctypes.sizeof(value):
            return INVALID
        if item == _MODE and value.value not in (0, 1, 2):
            return NOT_SUPPORTED
        self._of(config, "config")["items"][item] = value.value
        return SUCCESS

    def _ConfigGet(self, config: int, item: int, out: Any, size: int, written: Any) -> int:
        out.value, written.value = self._of(config, "config")["items"][item], size
        return SUCCESS

    def _ConfigDestroy(self, config: int) -> int:
        return self._drop(config, "config")

    # ------------------------------------------------------------------------------------------ matrices
    def _MatrixCreateCsr(self, out: Any, n: int, m: int, nnz: int, *given: Any) -> int:
        start, end, columns, values, offset, index, number, kind, view, base = given
        assert (n, end, offset, index, base) == (m, None, 10, 10, 0)
        assert (kind, view) in ((0, 0), (1, 2), (3, 2))
        return self._new(
            out, "matrix", n=n, nnz=nnz, start=start, columns=columns, values=values, number=_NUMBERS[number], type=kind
        )

    def _MatrixCreateDn(self, out: Any, n: int, k: int, ld: int, values: int, number: int, layout: int) -> int:
        assert (ld, layout) == (n, 0), "columns one after the other only"
        self.arrays.at(values, n * k, _NUMBERS[number])
        return self._new(out, "matrix", n=n, k=k, values=values, number=_NUMBERS[number])

    def _MatrixSetValues(self, matrix: int, values: int) -> int:
        found = self._of(matrix, "matrix")
        self.arrays.at(values, found["nnz"], found["number"])
        found["values"] = values
        return SUCCESS

    def _MatrixDestroy(self, matrix: int) -> int:
        return self._drop(matrix, "matrix")

    # ------------------------------------------------------------------------------------ analyses, factors
    def _DataCreate(self, handle: int, out: Any) -> int:
        return self._new(out, "data", order=None, given=False, state="new", info=0, lu=None)

    def _DataDestroy(self, handle: int, data: int) -> int:
        self._of(handle, "handle")
        return self._drop(data, "data")

    def _DataSet(self, handle: int, data: int, item: int, value: Any, size: int) -> int:
        found = self._of(data, "data")
        if item == _INFO:
            assert (value.value, size) == (0, 4)
            found["info"] = 0
            return SUCCESS
        assert (item, found["state"]) == (_USER_ORDER, "new")
        order = _host(value, size // 4, np.int32).copy()
        assert np.array_equal(np.sort(order), np.arange(len(order))), "no permutation"
        found.update(order=order, given=True)
        return SUCCESS

    def _DataGet(self, handle: int, data: int, item: int, out: Any, size: int, written: Any) -> int:
        self._of(handle, "handle")
        found, written.value = self._of(data, "data"), size
        if item == _ORDER:
            _host(out, size // 4, np.int32)[:] = found["order"]
        elif item == _DIAGONAL:
            if self.diagonal is None:
                return NOT_SUPPORTED
            roots = self.diagonal == "roots" and found["type"] == 3
            with np.errstate(invalid="ignore"):
                told = np.sqrt(found["pivots"]) if roots else found["pivots"]
            _host(out, len(told), found["number"])[:] = told
        elif item == _MEMORY:
            out[:4] = [found["bytes"], 2 * found["bytes"], 10, 20]
        elif item == _INERTIA:
            out[:] = found["inertia"]
        else:
            value = {_INFO: found["info"], _FILL: found.get("fill"), _REPLACED: found.get("replaced")}[item]
            if isinstance(out, ctypes.Array):
                out[:] = [value]
            else:
                out.value = value
        return SUCCESS

    def _Execute(self, handle: int, phase: int, config: int, data: int, matrix: int, x: int, b: int) -> int:
        self._of(handle, "handle")
        items, found, A = self._of(config, "config")["items"], self._of(data, "data"), self._of(matrix, "matrix")
        x_, b_ = self._of(x, "matrix"), self._of(b, "matrix")
        if phase == _ANALYSE:
            return self._analyse(items, found, A)
        if phase in (_FACTORISE, _AGAIN):
            if found["state"] == "new" or (phase == _AGAIN and found["state"] != "factorised"):
                return INVALID
            return self._factorise(items, found, A, phase)
        assert phase == _SOLVE
        if found["state"] != "factorised":
            return INVALID
        assert not items[_DETERMINISTIC] or b_["k"] == 1, "not supported by deterministic solves"
        return self._solve(items, found, A, x_, b_)

    def _analyse(self, items: dict[int, Any], found: dict[str, Any], A: dict[str, Any]) -> int:
        assert items[_MATCHING] in (0, 5), "matching by the values that there happen to be"
        self.log.append("order given" if found["given"] else "matched" if items[_MATCHING] else "analysed")
        n = A["n"]
        self.arrays.at(A["start"], n + 1, np.int32)
        self.arrays.at(A["values"], A["nnz"], A["number"])
        if found["order"] is None:
            found["order"] = np.random.default_rng(n).permutation(n).astype(np.int32)
        found.update(
            state="analysed", bytes=20 * A["nnz"], type=A["type"], number=A["number"], matched=items[_MATCHING]
        )
        return SUCCESS

    def _factorise(self, items: dict[int, Any], found: dict[str, Any], A: dict[str, Any], phase: int) -> int:
        self.log.append("again" if phase == _AGAIN else "factorised")
        taken = sum(each.get("bytes", 0) for each in self.objects.values() if each.get("lu") is not None)
        if self.capacity is not None and taken + 2 * found["bytes"] > self.capacity:
            return ALLOC_FAILED
        n, number = A["n"], A["number"]
        start, columns = self.arrays.at(A["start"], n + 1, np.int32), self.arrays.at(A["columns"], A["nnz"], np.int32)
        whole = sp.csr_array((self.arrays.at(A["values"], A["nnz"], number).copy(), columns.copy(), start), (n, n))
        if A["type"] != 0:
            whole = sp.csr_array(whole + whole.T - sp.diags_array(whole.diagonal()))
        found.update(lu=None, state="analysed", replaced=0, inertia=(0, 0), fill=0, pivots=np.full(n, np.nan))
        found["whole"] = whole
        if A["type"] == 3:
            return self._definite(found, whole)
        status = self._other(found, whole, items[_EPSILON])
        wrong = {"again": phase == _AGAIN, "unmatched": not found["matched"], "symmetric": A["type"] == 1}
        if n > 3 and self.careless is not None and wrong[self.careless]:
            found["lu"] = _factors(sp.csr_array(-np.abs(whole.data).max() * sp.eye_array(n)), 1.0)
        return status

    def _definite(self, found: dict[str, Any], whole: sp.csr_array) -> int:
        lu = _factors(whole, 0.0, symmetric=True)
        pivots = np.zeros(whole.shape[0]) if lu is None else _pivots(lu)
        bad = np.flatnonzero(~(pivots > 0.0))
        swapped = lu is not None and (lu.perm_r != lu.perm_c).any()
        if (len(bad) or swapped) and self.broken == "flag":
            place = np.empty(len(pivots), np.int64)
            place[found["order"]] = np.arange(len(pivots))
            found["info"] = int(place[bad].min() if len(bad) else 0) + 1
            return SUCCESS
        if (len(bad) or swapped) and self.broken == "nan":
            lu, pivots = None, np.where(pivots > 0.0, pivots, np.nan)
        found.update(state="factorised", lu=lu, pivots=pivots, fill=0 if lu is None else lu.nnz)
        return SUCCESS

    def _other(self, found: dict[str, Any], whole: sp.csr_array, epsilon: float) -> int:
        n, symmetric = whole.shape[0], found["type"] == 1
        assert epsilon > 0.0, "the size of replaced pivots depends on the units"
        threshold = 1.0 if found["matched"] else 0.1 if symmetric else 0.0
        lu, small = _factors(whole, threshold), np.ones(n, bool)
        if lu is not None:
            small = ~(np.abs(_pivots(lu)) > (epsilon if self.singular == "replace" else 1e-2 * epsilon))
        if small.any():
            if self.singular == "flag":
                found["info"] = n
                return SUCCESS
            if self.singular == "nan":
                lu = None
            else:
                moved = sp.csr_array(whole + sp.diags_array(np.where(small, epsilon, 0.0).astype(whole.dtype)))
                lu = _factors(moved, threshold)
                found["replaced"] = max(int(small.sum()) if lu is not None and not small.all() else 1, 1)
        pivots = np.full(n, np.nan) if lu is None else _pivots(lu)
        if symmetric and self.inertia and n <= _SMALL:
            w = np.linalg.eigvalsh(whole.toarray().astype(np.float64))
            found["inertia"] = (int((w > 0.0).sum()), int((w <= 0.0).sum()))
        found.update(state="factorised", lu=lu, pivots=pivots, fill=0 if lu is None else lu.nnz)
        return SUCCESS

    def _solve(
        self, items: dict[int, Any], found: dict[str, Any], A: dict[str, Any], x: dict[str, Any], b: dict[str, Any]
    ) -> int:
        n, k, number = b["n"], b["k"], b["number"]
        assert (x["n"], x["k"], x["number"], number) == (n, k, number, A["number"])
        self.log.append(f"solved {k}")
        assert items[_MODE] == 0 or A["type"] == 0, "symmetric matrices have no other mode"
        trans = "T" if items[_MODE] == 1 and not self.ignores_mode else "N"
        right = self.arrays.at(b["values"], n * k, number).reshape(k, n).T
        solution = (
            np.full((n, k), np.nan) if found["lu"] is None else found["lu"].solve(np.asfortranarray(right), trans)
        )
        if found["given"] and self.forgets_order:
            solution = solution[found["order"]]
        self.arrays.at(x["values"], n * k, number).reshape(k, n)[...] = solution.T
        return SUCCESS


def _seen(value: Any, kind: Any) -> Any:
    """An argument as C sees it: numbers, addresses, and what references refer to."""
    if kind is ctypes.c_char_p:
        assert isinstance(value, bytes)
        return value
    if kind is ctypes.c_void_p:
        if value is None or isinstance(value, int):
            return value
        if isinstance(value, ctypes.c_void_p):
            return value.value
        return value._obj  # of byref
    assert isinstance(value, int), (value, kind)
    assert kind(value).value == value, f"{value} does not fit {kind.__name__}"
    return int(value)


def _host(address: Any, count: int, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Numbers of the host at an address."""
    assert isinstance(address, int)
    assert address < 0x7000_0000_0000_0000, "on the device"
    kind = np.ctypeslib.as_ctypes_type(np.dtype(dtype))
    return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(kind)), (count,))


def _factors(whole: sp.csr_array, threshold: float, *, symmetric: bool = False) -> spla.SuperLU | None:
    try:
        return spla.splu(
            sp.csc_array(whole),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=threshold,
            options={"SymmetricMode": symmetric},
        )
    except RuntimeError:
        return None


def _pivots(lu: spla.SuperLU) -> npt.NDArray[Any]:
    """In the order of the unknowns."""
    return lu.U.diagonal()[lu.perm_c]
