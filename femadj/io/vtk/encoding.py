"""How VTU files hold arrays: text, base64 or raw bytes, plain or compressed in blocks."""

from __future__ import annotations

import binascii
import importlib
import lzma
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from femadj.errors import MeshFileError

TYPES = {
    "Int8": "i1", "UInt8": "u1", "Int16": "i2", "UInt16": "u2", "Int32": "i4", "UInt32": "u4", "Int64": "i8",
    "UInt64": "u8", "Float32": "f4", "Float64": "f8",
}  # fmt: skip

COMPRESSORS = {"": "", "vtkZLibDataCompressor": "zlib", "vtkLZMADataCompressor": "lzma", "vtkLZ4DataCompressor": "lz4"}

RATIO = {"zlib": 1_100, "lz4": 300, "lzma": 20_000}
"""How much smaller the methods can make data: more is claimed by damaged files only."""


@dataclass(frozen=True)
class Encoding:
    """What the head of the file says about its binary arrays."""

    order: str
    header: str
    compressor: str

    @property
    def size(self) -> int:
        """Bytes of a number of the headers."""
        return 8 if self.header == "u8" else 4

    def _numbers(self, data: bytes, count: int, where: str) -> list[int]:
        if len(data) < count * self.size:
            raise MeshFileError(f"{where}: it ends too early; the file is truncated or damaged")
        kind = np.dtype(self.order + self.header)
        return [int(i) for i in np.frombuffer(data, kind, count)]

    def raw(self, data: memoryview, where: str) -> bytes:
        """The bytes of an array, from those that begin with its header."""
        if not self.compressor:
            length = self._numbers(bytes(data[: self.size]), 1, where)[0]
            if length > len(data) - self.size:
                raise MeshFileError(f"{where}: {length} bytes are not there; the file is truncated or damaged")
            return bytes(data[self.size : self.size + length])
        count, head = self._count(bytes(data[: self.size]), len(data), where)
        sizes = self._numbers(bytes(data[:head]), 3 + count, where)
        return self._blocks(data[head:], sizes, where)

    def _count(self, data: bytes, available: int, where: str) -> tuple[int, int]:
        """Number of blocks, and bytes of the header."""
        count = self._numbers(data, 1, where)[0]
        if count > available:
            raise MeshFileError(f"{where}: {count} compressed blocks are not there; the file is truncated or damaged")
        return count, (3 + count) * self.size

    def base64(self, text: bytes, where: str) -> bytes:
        """The bytes of an array, from base64."""
        if not self.compressor:
            length = self._numbers(decoded(text[: _chars(self.size)], where), 1, where)[0]
            chars = _chars(self.size + length)
            data = decoded(text[:chars], where) if chars <= len(text) + 4 else b""
            if len(data) < self.size + length:
                raise MeshFileError(f"{where}: {length} bytes are not there; the file is truncated or damaged")
            return data[self.size : self.size + length]
        count, head = self._count(decoded(text[: _chars(self.size)], where), len(text), where)
        sizes = self._numbers(decoded(text[: _chars(head)], where), 3 + count, where)
        chars = _chars(sum(sizes[3:]))
        return self._blocks(memoryview(decoded(text[_chars(head) : _chars(head) + chars], where)), sizes, where)

    def _blocks(self, data: memoryview, sizes: list[int], where: str) -> bytes:
        count, size, last = sizes[:3]
        packed = sizes[3:]
        if sum(packed) > len(data):
            raise MeshFileError(f"{where}: its compressed blocks are not all there; the file is truncated or damaged")
        parts, at = [], 0
        for k, length in enumerate(packed):
            full = last if k == count - 1 and last else size
            if full > RATIO[self.compressor] * (length + 64):
                raise MeshFileError(f"{where}: {full} bytes cannot come from {length} compressed ones; it is damaged")
            parts.append(_decompress(self.compressor, bytes(data[at : at + length]), full, where))
            at += length
        return b"".join(parts)


def _chars(size: int) -> int:
    """Characters of base64 for a number of bytes."""
    return 4 * ((size + 2) // 3)


def decoded(text: bytes, where: str) -> bytes:
    """Bytes from base64."""
    try:
        return binascii.a2b_base64(text)
    except (binascii.Error, ValueError) as error:
        raise MeshFileError(f"{where}: its base64 data are damaged ({error})") from error


def _decompress(method: str, data: bytes, size: int, where: str) -> bytes:
    """A block, which must have its size."""
    try:
        if method == "zlib":
            result = zlib.decompressobj().decompress(data, size + 1)
        elif method == "lzma":
            result = lzma.LZMADecompressor().decompress(data, size + 1)
        else:
            result = lz4_block(where).decompress(data, uncompressed_size=size)
    except MeshFileError:
        raise
    except Exception as error:  # zlib.error, LZMAError, LZ4BlockError of a library that may be absent
        raise MeshFileError(f"{where}: its compressed data are damaged ({error})") from error
    if len(result) != size:
        raise MeshFileError(f"{where}: a compressed block holds {len(result)} bytes instead of {size}; it is damaged")
    return result


def lz4_block(where: str) -> Any:
    """The library for LZ4, which Python does not bring."""
    try:
        return importlib.import_module("lz4.block")
    except ImportError as error:
        raise MeshFileError(
            f"{where}: it is compressed by LZ4, which needs the library lz4 (pip install lz4); or save the file with "
            "zlib compression or none"
        ) from error


def values(data: bytes, kind: str, order: str, where: str) -> npt.NDArray[Any]:
    """Numbers of a type of VTK."""
    dtype = np.dtype(order + TYPES[kind])
    if len(data) % dtype.itemsize:
        raise MeshFileError(f"{where}: {len(data)} bytes are no whole number of {kind}; the file is damaged")
    found = np.frombuffer(data, dtype)
    return found if dtype.isnative else found.astype(dtype.newbyteorder("="))
