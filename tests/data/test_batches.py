from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data.augment import crop_and_flip
from compresskit.data.batches import batches
from compresskit.data.dataset import Split
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization

RAW = Normalization((0.0,), (1.0,))


def _split(count: int, shape: tuple[int, ...] = (3, 16, 24)) -> Split:
    rng = np.random.default_rng(count)
    return Split(rng.integers(0, 256, (count, *shape), np.uint8), np.arange(count))


def _rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(count=st.integers(1, 50), size=st.integers(1, 20), shuffled=st.booleans())
def test_each_sample_comes_once_in_the_promised_number_of_batches(count: int, size: int, shuffled: bool) -> None:
    got = list(batches(_split(count, (2,)), RAW, size, shuffle=_rng() if shuffled else None))
    lengths = [len(y) for _, y in got]
    labels = torch.cat([y for _, y in got])
    assert len(got) == -(-count // size)
    assert max(lengths) <= size
    assert sorted(labels.tolist()) == list(range(count))
    if shuffled:
        assert max(lengths) - min(lengths) <= 1
    else:
        assert labels.tolist() == list(range(count))
        assert set(lengths[:-1]) <= {size}


def test_samples_are_normalized_and_stay_with_their_labels() -> None:
    split = _split(30)
    normalization = Normalization((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (normalization.mean, normalization.std))
    for x, y in batches(split, normalization, 8, shuffle=_rng()):
        expected = (torch.from_numpy(split.x[y.numpy()]) / 255 - mean) / std
        torch.testing.assert_close(x, expected)


def test_types_are_as_asked_and_the_split_stays_as_it_was() -> None:
    split = Split(np.ones((4, 2), np.float32), np.ones(4, np.float32))
    x, y = next(batches(split, Normalization((1.0,), (1.0,)), 4, dtype=torch.bfloat16))
    assert (x.dtype, y.dtype) == (torch.bfloat16, torch.float32)
    assert (split.x == 1).all()


@pytest.mark.parametrize("start", [0, 1, 3, 4, 5])
def test_a_pass_resumes_at_any_batch(start: int) -> None:
    split = _split(37)
    whole = list(batches(split, RAW, 10, shuffle=_rng(7), augment="crop-flip"))
    rest = list(batches(split, RAW, 10, shuffle=_rng(7), augment="crop-flip", start=start))
    assert len(rest) == max(4 - start, 0)
    for (x, y), (expected_x, expected_y) in zip(rest, whole[start:], strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)


def test_the_generator_moves_by_the_call_alone() -> None:
    first, second = _rng(), _rng()
    batches(_split(9), RAW, 2, shuffle=first, augment="crop-flip")
    list(batches(_split(9), RAW, 2, shuffle=second))
    assert torch.equal(first.get_state(), second.get_state())
    assert not torch.equal(first.get_state(), _rng().get_state())


def test_bad_requests_are_refused_at_the_call() -> None:
    with pytest.raises(UsageError, match="batch size"):
        batches(_split(3), RAW, 0)
    with pytest.raises(UsageError, match="needs images"):
        batches(_split(3, (5,)), RAW, 2, shuffle=_rng(), augment="crop-flip")
    with pytest.raises(UsageError, match="from under their labels: give --augment none"):
        batches(Split(_split(3).x, np.zeros((3, 16, 24), np.int64)), RAW, 2, shuffle=_rng(), augment="crop-flip")
    with pytest.raises(ValueError, match="generator"):
        batches(_split(3), RAW, 2, augment="crop-flip")


def _slow_crop_and_flip(image: np.ndarray, rows: int, columns: int, mirrored: bool) -> np.ndarray:
    """One (C, H, W) image by padding, slicing and flipping."""
    reach = (image.shape[1] // 8, image.shape[2] // 8)
    padded = np.pad(image, ((0, 0), (reach[0],) * 2, (reach[1],) * 2), mode="reflect")
    cropped = padded[:, reach[0] + rows :, reach[1] + columns :][:, : image.shape[1], : image.shape[2]]
    return cropped[:, :, ::-1] if mirrored else cropped


def test_crops_and_flips_equal_the_slow_way_image_by_image() -> None:
    images = _split(64).x
    result = crop_and_flip(torch.from_numpy(images), _rng()).numpy()
    seen = set()
    for image, got in zip(images, result, strict=True):
        ways = [
            (r, c, m) for r in range(-2, 3) for c in range(-3, 4) for m in (False, True) if np.array_equal(_slow_crop_and_flip(image, r, c, m), got)
        ]
        assert len(ways) == 1
        seen.add(ways[0])
    assert {way[0] for way in seen} == set(range(-2, 3))
    assert {way[1] for way in seen} == set(range(-3, 4))
    assert {way[2] for way in seen} == {False, True}


def test_crops_and_flips_do_not_depend_on_the_layout() -> None:
    x = torch.from_numpy(_split(20).x)
    first = crop_and_flip(x, _rng(3))
    last = crop_and_flip(x.permute(0, 2, 3, 1).contiguous(), _rng(3))
    assert torch.equal(last.permute(0, 3, 1, 2), first)
