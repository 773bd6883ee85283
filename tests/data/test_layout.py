from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.layout import channel_axis, image_size, shape_samples
from compresskit.errors import InputError

sizes = st.integers(5, 9)


@given(channels=st.sampled_from([1, 3, 4]), height=sizes, width=sizes)
def test_channels_move_to_where_the_model_takes_them_and_back(channels: int, height: int, width: int) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, height, width, channels), np.uint8)
    first = shape_samples(x, (channels, height, width))
    assert np.array_equal(first[1, channels - 1], x[1, :, :, channels - 1])
    assert np.array_equal(shape_samples(first, (height, width, channels)), x)


@pytest.mark.parametrize(
    ("sample", "target"),
    [
        ((28, 28), (1, 28, 28)),
        ((28, 28), (28, 28, 1)),
        ((28, 28), (784, 1)),
        ((28, 28, 1), (784,)),
        ((784,), (1, 28, 28)),
        ((784, 1), (1, 28, 28)),
        ((5,), (1, 1, 1, 5)),
        ((20, 14), (1, 20, 14)),
        ((), (1,)),
    ],
)
def test_one_way_to_read_keeps_the_order_of_values(sample: tuple[int, ...], target: tuple[int, ...]) -> None:
    x = np.arange(2 * int(np.prod(sample))).reshape(2, *sample)
    shaped = shape_samples(x, target)
    assert shaped.shape == (2, *target)
    assert np.array_equal(shaped.ravel(), x.ravel())


@pytest.mark.parametrize(
    ("sample", "target"),
    [
        ((3072,), (3, 32, 32)),
        ((32, 32, 3), (3072,)),
        ((28, 28), (14, 56)),
        ((32, 3, 32), (32, 32, 3)),
        ((28, 28), (1, 32, 32)),
        ((3, 32, 32), (1, 32, 32)),
        ((4,), (5,)),
    ],
)
def test_two_ways_to_read_are_refused_naming_both_shapes(sample: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(InputError) as caught:
        shape_samples(np.zeros((2, *sample)), target)
    assert str(sample) in str(caught.value)
    assert str(target) in str(caught.value)


def test_where_channels_are() -> None:
    assert [channel_axis(shape) for shape in [(3, 32, 32), (32, 32, 3), (1, 28, 28), (28, 28, 1), (16, 8, 8), (3, 4, 4), (5,)]] == [
        0,
        -1,
        0,
        -1,
        0,
        0,
        0,
    ]
    assert image_size((3, 24, 32)) == image_size((24, 32, 3)) == (3, 24, 32)
    assert image_size((28, 20)) == (1, 28, 20)
    with pytest.raises(InputError, match="takes images"):
        image_size((784,))
