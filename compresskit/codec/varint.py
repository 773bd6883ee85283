"""Numbers in few bytes, and the cursor that reads them from bytes that nobody vouches for. Specified in FORMAT.md, "Numbers"."""

from __future__ import annotations

import math
import struct

from compresskit.errors import InputError

MAX_VARINT = 2**63 - 1
_VARINT_BYTES = 9

# A number starts with a varint: one of these two, or 2 + the zigzag code of an integer.
_FLOAT64 = 0
_FLOAT32 = 1
_INTEGER = 2
_EXACT_INTEGERS = 2**53
_LARGEST_FLOAT32 = (2 - 2**-23) * 2.0**127


class CutOffError(InputError):
    """The bytes end before what they declare: they were cut off, if they are not damaged."""


def pack_varint(value: int) -> bytes:
    """`value` in base 128, lowest digit first; every byte but the last has its high bit set (LEB128).

    Raises:
        ValueError: `value` is negative or above `MAX_VARINT`.
    """
    if not 0 <= value <= MAX_VARINT:
        raise ValueError(f"{value} is no varint: expected 0 to 2**63 - 1")
    packed = bytearray()
    while value > 0x7F:
        packed.append(value & 0x7F | 0x80)
        value >>= 7
    packed.append(value)
    return bytes(packed)


def pack_number(value: float) -> bytes:
    """A finite `value` in the shortest form that restores it exactly: integer, float32 or float64."""
    forms = [pack_varint(_FLOAT64) + struct.pack("<d", value)]
    if abs(value) <= _LARGEST_FLOAT32:
        single = struct.pack("<f", value)
        if struct.unpack("<f", single)[0] == value:
            forms.append(pack_varint(_FLOAT32) + single)
    negative_zero = value == 0 and math.copysign(1, value) < 0
    if float(value).is_integer() and abs(value) < _EXACT_INTEGERS and not negative_zero:
        forms.append(pack_varint(_INTEGER + _zigzag(int(value))))
    return min(forms, key=len)


class Cursor:
    """Reads `data` from the front. Whatever it meets, it raises nothing but `InputError`, and allocates only what is there."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self.offset = 0

    @property
    def remaining(self) -> int:
        """How many bytes have not been read."""
        return len(self._data) - self.offset

    def view(self, count: int) -> memoryview:
        """The next `count` bytes, not copied.

        Raises:
            CutOffError: there are fewer.
        """
        if count > self.remaining:
            raise CutOffError(f"damaged bitstream: {count} bytes declared where {self.remaining} are left")
        start, self.offset = self.offset, self.offset + count
        return self._data[start : self.offset]

    def take(self, count: int) -> bytes:
        """The next `count` bytes.

        Raises:
            CutOffError: there are fewer.
        """
        return bytes(self.view(count))

    def byte(self) -> int:
        """The next byte.

        Raises:
            CutOffError: there is none.
        """
        return self.view(1)[0]

    def varint(self) -> int:
        """The next varint, in its shortest form: 0 to `MAX_VARINT`.

        Raises:
            CutOffError: it does not end before the data do.
            InputError: it has more than 9 bytes, or ends in a superfluous zero.
        """
        value = 0
        for index, byte in enumerate(self._data[self.offset : self.offset + _VARINT_BYTES]):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if byte == 0 and index:
                    raise InputError("damaged bitstream: a varint that is longer than it needs to be")
                self.offset += index + 1
                return value
        error = CutOffError if self.remaining < _VARINT_BYTES else InputError
        raise error("damaged bitstream: a varint that does not end")

    def number(self) -> float:
        """The next number, in any of its forms.

        Raises:
            InputError: it is cut off, or not finite.
        """
        form = self.varint()
        if form >= _INTEGER:
            return float(_unzigzag(form - _INTEGER))
        value: float = struct.unpack("<d", self.view(8))[0] if form == _FLOAT64 else struct.unpack("<f", self.view(4))[0]
        if not math.isfinite(value):
            raise InputError(f"damaged bitstream: {value} where a finite number belongs")
        return value


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _unzigzag(code: int) -> int:
    return code >> 1 if code % 2 == 0 else -(code >> 1) - 1
