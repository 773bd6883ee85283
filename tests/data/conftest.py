from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from compresskit.errors import CompresskitError, InputError


def _images(count: int = 60, shape: tuple[int, ...] = (8, 8, 3), classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and int64 labels that run through all classes."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count) % classes


def _idx(array: np.ndarray) -> bytes:
    """The IDX file of an array, written here from the format's description."""
    code = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}[array.dtype.str[1:]]
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


@contextmanager
def _refused(*words: str, error: type[CompresskitError] = InputError) -> Iterator[None]:
    """Expect an error of one line that has every word in it."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@contextmanager
def _little_memory(limit: int = 64 * 2**20) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="session")
def images() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return _images


@pytest.fixture(scope="session")
def idx_bytes() -> Callable[[np.ndarray], bytes]:
    return _idx


@pytest.fixture(scope="session")
def refused() -> Callable[..., object]:
    return _refused


@pytest.fixture(scope="session")
def little_memory() -> Callable[..., object]:
    return _little_memory


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = Path(__file__).parents[2] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the shared data are not here")
    return folder
