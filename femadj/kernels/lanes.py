"""Vectors of several numbers at once, one for every unknown of a node: what block kernels are written in.

``Lanes(rows, width)`` is held in registers: for each unknown of a node the entries of ``width`` columns. Arrays are
flat: entry ``(i, r, l)`` of node i, unknown r and column l lies at ``(i * rows + r) * width + l``; blocks of a matrix
follow one another, by rows. Each entry of a result adds up its products in one order, multiplied and added in one
rounding where the processor can, for any width: columns do not know of one another. Lanes are float32 or float64 (see
``wide``), arrays either; what is loaded is taken over exactly, what is stored is rounded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel.models import PrimitiveModel
from numba.extending import intrinsic, register_model

from femadj.kernels.compile import Kernel, compile_once


class Lanes(types.Type):
    """Type of the entries of one node: ``rows`` unknowns in ``width`` columns, in float64 when ``wide``."""

    def __init__(self, rows: int, width: int, wide: bool) -> None:
        self.rows, self.width, self.wide = rows, width, wide
        super().__init__(f"Lanes({rows}, {width}, {wide})")

    @property
    def zero(self) -> Any:
        """A vector of zeros."""
        return ir.Constant(_vector(self.width, self.wide), 0.0 if self.width == 1 else [0.0] * self.width)


def _number(wide: bool) -> Any:
    return ir.DoubleType() if wide else ir.FloatType()


def _vector(width: int, wide: bool) -> Any:
    return _number(wide) if width == 1 else ir.VectorType(_number(wide), width)


@register_model(Lanes)
class _LanesModel(PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        super().__init__(dmm, fe_type, ir.ArrayType(_vector(fe_type.width, fe_type.wide), fe_type.rows))


class _Builder:
    """Instructions on the vectors of one kind of lanes."""

    def __init__(self, context: Any, builder: Any, lanes: Lanes) -> None:
        self.context, self.builder, self.width, self.wide = context, builder, lanes.width, lanes.wide
        self.kind = _vector(self.width, self.wide)

    def data(self, array: Any, value: Any, block: Any, size: int) -> Any:
        """Address of the first number of a block of ``size`` numbers in a flat array."""
        base = self.context.make_array(array)(self.context, self.builder, value).data
        return self.builder.gep(base, [self.builder.mul(block, ir.Constant(block.type, size))])

    def columns(self, array: Any, value: Any, row: Any, stride: Any, first: Any, rows: int) -> list[Any]:
        """Addresses of the entries of a node in some columns of an array that has more."""
        start = self.builder.add(self.builder.mul(self.builder.mul(row, ir.Constant(row.type, rows)), stride), first)
        base = self.context.make_array(array)(self.context, self.builder, value).data
        return [
            self.builder.gep(base, [self.builder.add(start, self.builder.mul(ir.Constant(row.type, r), stride))])
            for r in range(rows)
        ]

    def vector(self, address: Any, k: int, width: int) -> tuple[Any, Any]:
        """Address and kind of ``width`` numbers from number ``k`` on."""
        kind = _vector(width, address.type.pointee == _number(True))
        at = self.builder.gep(address, [ir.Constant(ir.IntType(64), k)])
        return at if width == 1 else self.builder.bitcast(at, kind.as_pointer()), kind

    def load(self, address: Any, k: int, width: int) -> Any:
        at, kind = self.vector(address, k, width)
        wanted = _vector(width, self.wide)
        numbers = self.builder.load(at, align=4)
        return numbers if kind == wanted else self.builder.fpext(numbers, wanted)

    def store(self, numbers: Any, address: Any, k: int) -> None:
        at, kind = self.vector(address, k, self.width)
        numbers = numbers if kind == self.kind else self.builder.fptrunc(numbers, kind)
        self.builder.store(numbers, at, align=4)

    def spread(self, number: Any) -> Any:
        """A vector of equal numbers."""
        if self.width == 1:
            return number
        one = self.builder.insert_element(ir.Constant(self.kind, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, ir.Constant(self.kind, ir.Undefined), zeros)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        """``a * b + c``, for a number ``a``."""
        number = "f64" if self.wide else "f32"
        name = f"llvm.fmuladd.{number}" if self.width == 1 else f"llvm.fmuladd.v{self.width}{number}"
        kind = ir.FunctionType(self.kind, [self.kind] * 3)
        function = self.builder.module.globals.get(name) or ir.Function(self.builder.module, kind, name)
        return self.builder.call(function, [self.spread(a), b, c])

    def rows(self, block: Any, rows: int) -> list[Any]:
        return [self.builder.extract_value(block, r) for r in range(rows)]

    def packed(self, vectors: list[Any]) -> Any:
        block = ir.Constant(ir.ArrayType(self.kind, len(vectors)), ir.Undefined)
        for r, vector in enumerate(vectors):
            block = self.builder.insert_value(block, vector, r)
        return block


def load(array, i):  # type: ignore[no-untyped-def]
    """Entries of node i."""
    raise NotImplementedError


def store(array, i, lanes):  # type: ignore[no-untyped-def]
    """Write the entries of node i."""
    raise NotImplementedError


def product(values, k, array, j, lanes):  # type: ignore[no-untyped-def]
    """``lanes - values[k] @ array[j]``, with block k of a matrix and the entries of node j."""
    raise NotImplementedError


def added(values, k, array, j, stride, first, lanes):  # type: ignore[no-untyped-def]
    """``lanes + values[k] @ array[j]``, with columns from ``first`` on of an array that has ``stride`` of them."""
    raise NotImplementedError


def nothing():  # type: ignore[no-untyped-def]
    """Zeros."""
    raise NotImplementedError


def put(array, i, stride, first, lanes):  # type: ignore[no-untyped-def]
    """Write the entries of node i into columns from ``first`` on of an array that has ``stride`` of them."""
    raise NotImplementedError


def solved(values, i, lanes):  # type: ignore[no-untyped-def]
    """``values[i] @ lanes``, with the square block i."""
    raise NotImplementedError


def combined(a, x, b, y):  # type: ignore[no-untyped-def]
    """``a x + b y`` for numbers a and b."""
    raise NotImplementedError


def _difference(b: _Builder, lanes: list[Any], address: Any, column: list[Any], sign: bool) -> list[Any]:
    for r in range(len(lanes)):
        for c, x in enumerate(column):
            value = b.load(address, r * len(column) + c, 1)
            lanes[r] = b.multiply_add(b.builder.fneg(value) if sign else value, x, lanes[r])
    return lanes


def _moves(own: Lanes) -> list[Any]:
    """What loads and stores lanes, and makes them."""
    rows, width, zero = own.rows, own.width, own.zero

    @intrinsic
    def load(_, array, i):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            address = b.data(array, values[0], values[1], rows * width)
            return b.packed([b.load(address, r * width, width) for r in range(rows)])

        return own(array, types.int64), lower

    @intrinsic
    def store(_, array, i, lanes):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            address = b.data(array, values[0], values[1], rows * width)
            for r, vector in enumerate(b.rows(values[2], rows)):
                b.store(vector, address, r * width)
            return context.get_dummy_value()

        return types.void(array, types.int64, own), lower

    @intrinsic
    def nothing(_):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            return _Builder(context, builder, own).packed([zero] * rows)

        return own(), lower

    @intrinsic
    def put(_, array, i, stride, first, lanes):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            places = b.columns(array, values[0], values[1], values[2], values[3], rows)
            for at, vector in zip(places, b.rows(values[4], rows), strict=True):
                b.store(vector, at, 0)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64, types.int64, own), lower

    return [load, store, nothing, put]


def _products(own: Lanes, columns: int) -> list[Any]:
    """What multiplies lanes with blocks of so many columns, or with numbers."""
    rows, width, zero = own.rows, own.width, own.zero
    number = types.float64 if own.wide else types.float32

    @intrinsic
    def product(_, matrix, k, array, j, lanes):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            other = b.data(array, values[2], values[3], columns * width)
            column = [b.load(other, c * width, width) for c in range(columns)]
            address = b.data(matrix, values[0], values[1], rows * columns)
            return b.packed(_difference(b, b.rows(values[4], rows), address, column, True))

        return own(matrix, types.int64, array, types.int64, own), lower

    @intrinsic
    def added(_, matrix, k, array, j, stride, first, lanes):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            column = [
                b.load(at, 0, width) for at in b.columns(array, values[2], values[3], values[4], values[5], columns)
            ]
            address = b.data(matrix, values[0], values[1], rows * columns)
            return b.packed(_difference(b, b.rows(values[6], rows), address, column, False))

        return own(matrix, types.int64, array, types.int64, types.int64, types.int64, own), lower

    @intrinsic
    def solved(_, matrix, i, lanes):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            address = b.data(matrix, values[0], values[1], rows * rows)
            return b.packed(_difference(b, [zero] * rows, address, b.rows(values[2], rows), False))

        return own(matrix, types.int64, own), lower

    @intrinsic
    def combined(_, alpha, x, beta, y):  # type: ignore[no-untyped-def]
        def lower(context, builder, signature, values):  # type: ignore[no-untyped-def]
            b = _Builder(context, builder, own)
            pairs = zip(b.rows(values[1], rows), b.rows(values[3], rows), strict=True)
            return b.packed([b.multiply_add(values[0], u, b.multiply_add(values[2], v, zero)) for u, v in pairs])

        return own(number, own, number, own), lower

    return [product, added, solved, combined]


@cache
def lanes_of(rows: int, columns: int, width: int, wide: bool = False) -> dict[str, Callable[..., Any]]:
    """The functions above for blocks of ``rows`` times ``columns``, and vectors of ``width`` columns.

    ``wide``: lanes of float64; arrays of float32 may be loaded and stored. Else lanes and arrays are float32.
    """
    own = Lanes(rows, width, wide)
    return {function.__name__: function for function in (*_moves(own), *_products(own, columns))}


def blocked(*arguments: Any, wide: bool = False) -> Callable[[Callable[..., Any]], Callable[[int, int, int], Kernel]]:
    """Decorator: from a body, a factory of kernels: ``factory(rows, columns, width)``."""

    def decorate(body: Callable[..., Any]) -> Callable[[int, int, int], Kernel]:
        @cache
        def factory(rows: int, columns: int, width: int) -> Kernel:
            name = f"{body.__name__}_{rows}_{columns}_{width}"
            return compile_once(body, arguments, name, lanes_of(rows, columns, width, wide))

        return wraps(body)(factory)

    return decorate
