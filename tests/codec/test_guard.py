from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from compresskit.codec.guard import Guard, decode_guard, encode_guard, fits
from compresskit.codec.levels import from_levels, to_levels
from compresskit.codec.signal import Scale
from compresskit.errors import InputError

INTEGERS = ["|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"]
FLOATS = ["<f2", "<f4", "<f8"]
LOSSLESS = Guard("lossless")
SHAPES = arrays.array_shapes(min_dims=3, max_dims=4, max_side=5)


def samples(dtype: str) -> st.SearchStrategy[np.ndarray]:
    """Any finite samples, single ones and constants among them."""
    kind = np.dtype(dtype)
    elements = arrays.from_dtype(kind, allow_nan=False, allow_infinity=False)
    constants = st.builds(lambda shape, value: np.full(shape, value, kind), SHAPES, elements)
    return st.one_of(arrays.arrays(kind, SHAPES, elements=elements), constants)


def scale_of(values: np.ndarray) -> Scale:
    low, high = float(values.min()), float(values.max())
    return Scale(low, (high / 65535 - low / 65535) or 1.0, 65536)


def rough(values: np.ndarray, scale: Scale) -> np.ndarray:
    """A reconstruction that is off here and there."""
    with np.errstate(over="ignore", invalid="ignore"):
        levels = np.nan_to_num(to_levels(values, scale))
    levels = np.clip(levels + np.arange(values.size).reshape(values.shape) % 7 * 50, 0, scale.levels - 1)
    return from_levels(levels, scale, values.dtype)


def spans(values: np.ndarray) -> bool:
    return math.isfinite(float(values.max()) - float(values.min()))


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@settings(max_examples=30)
@given(st.data())
def test_lossless_restores_every_bit(dtype: str, data: st.DataObject) -> None:
    values = data.draw(samples(dtype))
    scale = scale_of(values)
    if not spans(values) or not fits(LOSSLESS, values, scale):
        assert np.dtype(dtype).itemsize == 8 or not spans(values)
        return
    decoded = rough(values, scale)
    restored = decode_guard(LOSSLESS, encode_guard(LOSSLESS, values, decoded, scale), decoded, scale)
    assert (restored.dtype, restored.tobytes()) == (values.dtype, values.tobytes())


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@settings(max_examples=40)
@given(st.data())
def test_no_sample_is_off_by_more_than_the_tolerance(dtype: str, data: st.DataObject) -> None:
    values = data.draw(samples(dtype))
    guard = Guard("max-error", data.draw(st.floats(1e-3, 1e30)))
    scale = scale_of(values)
    if not spans(values) or not fits(guard, values, scale):
        with pytest.raises(InputError, match="choose a larger --max-error"):
            encode_guard(guard, values, values, scale)
        return
    decoded = rough(values, scale)
    restored = decode_guard(guard, encode_guard(guard, values, decoded, scale), decoded, scale)
    errors = [
        abs(int(one) - int(other)) if dtype[1] in "iu" else abs(float(one) - float(other))
        for one, other in zip(values.flat, restored.flat, strict=True)
    ]
    assert restored.dtype == values.dtype
    assert max(errors) <= guard.tolerance


@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_the_sign_of_zero_and_subnormals_are_restored(dtype: str) -> None:
    tiny = np.finfo(dtype).smallest_subnormal
    values = np.array([-0.0, 0.0, tiny, -tiny, -0.0], dtype).reshape(1, 5, 1)
    decoded = np.zeros_like(values)
    restored = decode_guard(LOSSLESS, encode_guard(LOSSLESS, values, decoded, Scale(0.0, 1.0, 1)), decoded, Scale(0.0, 1.0, 1))
    assert restored.tobytes() == values.tobytes()


def test_the_largest_half_float_stays_finite() -> None:
    values = np.array([[[65504.0]], [[-65504.0]]], "<f2")
    guard, scale = Guard("max-error", 1000.0), scale_of(values)
    restored = decode_guard(guard, encode_guard(guard, values, values, scale), values, scale)
    assert np.isfinite(restored).all()


def test_eight_byte_floats_are_not_guarded_without_loss() -> None:
    values = np.array([[[1.0]]])
    scale = scale_of(values)
    assert not fits(LOSSLESS, values, scale)
    with pytest.raises(InputError, match="damaged bitstream: float64 samples cannot be kept exactly"):
        decode_guard(LOSSLESS, b"", values, scale)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS + ["|b1"])
@pytest.mark.parametrize("low", [-1e300, 0.0, 1e300])
@pytest.mark.parametrize("tolerance", [0.0, 5e-324, 1.0, 1e308])
def test_forged_grids_decode_or_are_refused(dtype: str, low: float, tolerance: float) -> None:
    scale = Scale(low, 1e295, 65536)
    decoded = from_levels(np.array([[[0], [65535]]]), scale, np.dtype(dtype))
    residual = encode_guard(LOSSLESS, np.array([[[0], [200]]], np.uint8), np.array([[[0], [0]]], np.uint8), Scale(0.0, 1.0, 256))
    try:
        restored = decode_guard(Guard("max-error", tolerance), residual, decoded, scale)
    except InputError as error:
        assert "cannot be kept within" in str(error)  # noqa: PT017  both ways out are right
    else:
        assert np.isfinite(restored.astype(np.float64)).all()
