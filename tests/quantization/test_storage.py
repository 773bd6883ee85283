"""Packed integers are read back by onnx itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from compresskit.quantization.storage import activation_container, tensor, weight_container


@given(st.integers(2, 16), st.data())
def test_what_is_stored_is_read_back(bits: int, data: st.DataObject) -> None:
    container = weight_container(bits)
    top = 2 ** (bits - 1) - 1
    values = np.array(data.draw(st.lists(st.integers(-top, top), min_size=1, max_size=40)))
    stored = tensor("w", values, container.kind, container.bits)
    assert np.array_equal(numpy_helper.to_array(stored).astype(np.int64), values)
    assert len(stored.raw_data) == -(-values.size * container.bits // 8)


@pytest.mark.parametrize(("bits", "width"), [(2, 2), (3, 4), (4, 4), (5, 8), (8, 8), (9, 16), (16, 16)])
def test_weights_take_the_smallest_type_that_holds_them(bits: int, width: int) -> None:
    assert weight_container(bits).bits == width
    assert activation_container(bits).bits == max(8, width)
