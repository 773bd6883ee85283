from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.codec.modalities import read, write
from compresskit.codec.modalities.parts import MAX_METADATA, join_parts, split_parts
from compresskit.codec.signal import Scale
from compresskit.data.limits import Limits
from compresskit.errors import InputError, UsageError

TYPES = st.sampled_from([f"{order}{kind}" for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")] + ["|i1", "|u1"])
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


def npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, values, version=version, allow_pickle=True)
    return buffer.getvalue()


def declared(text: str) -> bytes:
    """An array of 8 bytes whose header says `text`."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(8)


@settings(max_examples=150)
@given(st.data())
def test_the_file_is_restored_byte_for_byte(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(TYPES))
    elements = {"allow_infinity": False} if dtype.kind == "f" else {}
    values = data.draw(hnp.arrays(dtype, SHAPES, elements=hnp.from_dtype(dtype, **elements)))
    original = npy(np.asarray(values, order=data.draw(st.sampled_from("CF"))))
    if dtype.kind == "f" and dtype.itemsize == 8 and not np.isfinite(float(np.nanmax(values, initial=0)) - float(np.nanmin(values, initial=0))):
        return
    signal = read(original, "x.npy")
    assert write(signal) == original
    assert signal.values.dtype == dtype.newbyteorder("=")
    assert (signal.missing is not None) == bool(dtype.kind == "f" and np.isnan(values).any())
    assert np.isfinite(signal.values.astype(np.float64)).all()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((5,), (1, 5, 1)), ((3, 4), (1, 3, 4, 1)), ((2, 3, 4), (1, 2, 3, 4, 1)), ((6, 2, 3, 4), (6, 2, 3, 4, 1)), ((1, 2, 3, 4), (1, 2, 3, 4, 1))],
    ids=["1-D", "2-D", "3-D", "4-D", "4-D of one frame"],
)
def test_axes_become_frames_and_space(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    original = npy(np.arange(np.prod(shape), dtype=">i4").reshape(shape))
    signal = read(original, "x.npy")
    assert signal.values.shape == expected
    assert signal.values.reshape(shape).tolist() == np.arange(np.prod(shape)).reshape(shape).tolist()
    assert len(signal.metadata) <= 4
    assert write(signal) == original


@pytest.mark.parametrize("version", [(1, 0), (2, 0)], ids=["version 1", "version 2"])
def test_an_unusual_header_is_kept(version: tuple[int, int]) -> None:
    original = npy(np.ones(3), version).replace(b"(3,), }", b"(3,)}  ")
    assert write(read(original, "x.npy")) == original


def test_every_bit_of_a_nan_is_kept() -> None:
    bits = np.array([0x7FC00000, 0xFFC00001, 0x3F800000, 0x7F800001], np.uint32)
    original = npy(bits.view(np.float32))
    signal = read(original, "x.npy")
    assert signal.missing is not None
    assert signal.missing.tolist() == [[True, True, False, True]]
    assert signal.values.tolist() == [[[1.0], [1.0], [1.0], [1.0]]]
    assert write(signal) == original


def test_nothing_but_nan_is_kept() -> None:
    original = npy(np.full((3, 2), np.nan))
    signal = read(original, "x.npy")
    assert signal.scale == Scale(0.0, 1.0, 1)
    assert write(signal) == original


@pytest.mark.parametrize(
    ("values", "scale", "peak"),
    [
        (np.array([-3, 7], np.int64), Scale(-3.0, 1.0, 11), 10.0),
        (np.array([0, 65535], np.uint16), Scale(0.0, 1.0, 65536), 65535.0),
        (np.array([0, 65536], np.int32), Scale(0.0, 65536 / 65535, 65536), 65536.0),
        (np.array([-(2**63), 2**63 - 1]), Scale(-(2.0**63), 2.0**64 / 65535, 65536), 2.0**64),
        (np.array([1.0, np.nan, 3.0]), Scale(1.0, 2 / 65535, 65536), 2.0),
        (np.array([2.5, 2.5], np.float16), Scale(2.5, 1.0, 1), 1.0),
        (np.array([0.0, 5e-324]), Scale(0.0, 2.2250738585072014e-308, 65536), 5e-324),
        (np.array([9], np.uint8), Scale(9.0, 1.0, 1), 1.0),
    ],
    ids=["integers", "all of 16 bits", "more than 16 bits", "all of 64 bits", "floats", "constant", "denormal", "one sample"],
)
def test_levels_span_the_range_of_the_samples(values: np.ndarray, scale: Scale, peak: float) -> None:
    signal = read(npy(values), "x.npy")
    assert signal.scale == scale
    assert signal.peak == peak


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (npy(np.zeros((2, 0))), "empty"),
        (npy(np.float64(1)), "1 to 4 dimensions"),
        (npy(np.zeros((1,) * 5)), "1 to 4 dimensions"),
        (npy(np.zeros(3, complex)), "complex128"),
        (npy(np.zeros(3, bool)), "bool"),
        (npy(np.zeros(3, "U4")), "<U4"),
        (npy(np.array([None])), "pickled"),
        (npy(np.array([1, np.inf])), "infinite"),
        (npy(np.array([-1.7e308, 1.7e308])), "more than a float can hold"),
        (declared("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}"), "--max-bytes"),
        (declared("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}"), "damaged"),
        (declared("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)"), "damaged header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "damaged"),
        (npy(np.zeros(3)) + b"x", "more bytes"),
        (b"this is no array\n", "no kind"),
        (b"", "empty"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_what_cannot_be_coded_is_refused_in_one_line(original: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(original, "x.npy")
    assert str(caught.value).startswith("x.npy")
    assert "\n" not in str(caught.value)


def test_every_truncation_is_refused() -> None:
    original = npy(np.arange(20.0))
    for length in range(len(original)):
        with pytest.raises(InputError):
            read(original[:length], "x.npy")


def test_a_limit_is_named() -> None:
    with pytest.raises(InputError, match="--max-bytes"):
        read(npy(np.zeros(1000)), "x.npy", limits=Limits(max_bytes=1000))


def test_a_variable_is_no_option() -> None:
    with pytest.raises(UsageError, match="no variables"):
        read(npy(np.zeros(3)), "x.npy", variable="t")


@given(st.binary(max_size=40))
def test_damaged_metadata_is_refused_or_harmless(metadata: bytes) -> None:
    signal = replace(read(npy(np.array([[1.0, np.nan]])), "x.npy"), metadata=metadata)
    with contextlib.suppress(InputError):
        assert write(signal).endswith(bytes(8))


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_parts_are_split_as_they_were_joined(parts: list[bytes]) -> None:
    assert split_parts(join_parts(*parts), len(parts)) == parts


def test_parts_are_bounded() -> None:
    with pytest.raises(InputError, match="more than can be kept"):
        join_parts(bytes(MAX_METADATA), b"x")
    bomb = join_parts(bytes(MAX_METADATA - 4))  # deflated: a few thousand bytes
    with pytest.raises(InputError, match="does not unpack"):
        split_parts(bomb[:-1], 1)
