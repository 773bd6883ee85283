"""Varints and numbers: exact round trips, exact bytes, and a cursor that survives anything."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from compresskit.codec.varint import MAX_VARINT, Cursor, pack_number, pack_varint
from compresskit.errors import InputError

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**60), 2**60).map(float),
)


@settings(max_examples=250)
@given(st.integers(0, MAX_VARINT))
@example(0)
@example(127)
@example(128)
@example(MAX_VARINT)
def test_varints_come_back_in_seven_bits_a_byte(value: int) -> None:
    packed = pack_varint(value)
    cursor = Cursor(packed + b"tail")
    assert cursor.varint() == value
    assert cursor.take(cursor.remaining) == b"tail"
    assert len(packed) == max(1, math.ceil(value.bit_length() / 7))


@pytest.mark.parametrize(("value", "packed"), [(0, "00"), (127, "7f"), (128, "8001"), (300, "ac02"), (MAX_VARINT, "ff" * 8 + "7f")])
def test_varints_have_these_bytes(value: int, packed: str) -> None:
    assert pack_varint(value).hex() == packed


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_what_no_varint_holds_is_not_packed(value: int) -> None:
    with pytest.raises(ValueError, match="no varint"):
        pack_varint(value)


@pytest.mark.parametrize("packed", ["", "80", "ffff", "80" * 9 + "01", "ff" * 20, "8000", "ac8200"])
def test_varints_that_do_not_end_or_are_too_long_are_refused(packed: str) -> None:
    with pytest.raises(InputError, match="a varint that"):
        Cursor(bytes.fromhex(packed)).varint()


@given(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**60), 2**60).map(float)
    | st.floats(width=32, allow_nan=False, allow_infinity=False)
)
@example(-0.0)
@example(1.7976931348623157e308)
@example(3.4028235677973366e38)
def test_numbers_come_back_exactly(value: float) -> None:
    packed = pack_number(value)
    cursor = Cursor(packed)
    assert struct.pack("<d", cursor.number()) == struct.pack("<d", value)
    assert cursor.remaining == 0
    assert len(packed) <= 9


@pytest.mark.parametrize(
    ("value", "packed"),
    [
        (0.0, "02"),
        (-1.0, "03"),
        (1.0, "04"),
        (-128.0, "8102"),
        (0.5, "010000003f"),
        (-0.0, "0100000080"),
        (2.0**100, "0100008071"),
        (0.1, "009a9999999999b93f"),
    ],
)
def test_numbers_take_their_shortest_form(value: float, packed: str) -> None:
    assert pack_number(value).hex() == packed


@pytest.mark.parametrize("packed", [b"\0" + struct.pack("<d", math.nan), b"\1" + struct.pack("<f", math.inf)], ids=["nan", "infinity"])
def test_numbers_that_are_none_are_refused(packed: bytes) -> None:
    with pytest.raises(InputError, match="a finite number belongs"):
        Cursor(packed).number()


@given(st.binary(max_size=24), st.lists(st.sampled_from(["varint", "number", "byte"]), max_size=8))
def test_a_cursor_raises_nothing_but_its_error_and_never_leaves_its_bytes(data: bytes, calls: list[str]) -> None:
    cursor = Cursor(data)
    for call in calls:
        method: Any = getattr(cursor, call)
        before = cursor.offset
        try:
            method()
        except InputError:
            break
        assert before < cursor.offset <= len(data)


def test_more_bytes_than_there_are_are_refused_before_they_are_allocated() -> None:
    with pytest.raises(InputError, match="declared where 3 are left"):
        Cursor(b"abc").take(MAX_VARINT)
