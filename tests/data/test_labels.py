from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.data.labels import to_targets
from compresskit.errors import InputError


@given(st.lists(st.integers(0, 9), min_size=2).filter(lambda labels: len(set(labels)) > 1))
def test_every_way_to_write_class_numbers_gives_the_same_targets(labels: list[int]) -> None:
    expected = np.array(labels, np.int64)
    one_hot = np.eye(10)[expected]
    for written in (expected, expected.astype(np.uint8), expected[:, None], expected.astype(np.float64), one_hot, one_hot.astype(np.int32)):
        targets = to_targets(written, 10)
        assert targets.values.dtype == np.int64
        assert np.array_equal(targets.values, expected)
        assert targets.classes == 10
    assert to_targets(expected, None).classes == max(labels) + 1


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(2, 3)), elements=st.integers(0, 9)))
def test_maps_hold_a_class_a_pixel(maps: np.ndarray) -> None:
    maps[0, 0, :2] = 0, 1
    for written in (maps, maps.astype(np.int64), maps[:, None]):
        targets = to_targets(written, 10)
        assert targets.values.dtype == np.int64
        assert np.array_equal(targets.values, maps)
        assert targets.classes == 10
    with pytest.raises(InputError, match="map of classes"):
        to_targets(maps / 2, 10)


@given(st.lists(st.text(min_size=1).filter(lambda name: "\0" not in name), min_size=2, max_size=5, unique=True), st.randoms())
def test_names_are_numbered_in_order(names: list[str], random: object) -> None:
    targets = to_targets(np.array(names * 2), None)
    assert targets.names is not None
    assert [targets.names[number] for number in targets.values] == names * 2
    backwards = tuple(reversed(targets.names))
    assert np.array_equal(to_targets(np.array(names), len(names), backwards).values, len(names) - 1 - targets.values[: len(names)])


def test_integer_names_sort_by_value_and_bytes_are_text() -> None:
    assert to_targets(np.array(["10", "9", "100"]), None).names == ("9", "10", "100")
    assert to_targets(np.array([b"b", b"a"]), None).names == ("a", "b")


def test_what_is_regressed() -> None:
    assert to_targets(np.array([0.5, 2.0]), None).classes is None
    assert to_targets(np.array([1.0, 2.0]), None).values.dtype == np.float32
    assert to_targets(np.array([0, 1]), 1).values.dtype == np.float32
    assert to_targets(np.array([[0.5, 2.0], [1.0, 3.0]]), 2).values.shape == (2, 2)
    binary = to_targets(np.array(["no", "yes", "no"]), 1)
    assert binary.values.tolist() == [0.0, 1.0, 0.0]
    assert binary.names == ("no", "yes")


@pytest.mark.parametrize(
    ("labels", "outputs", "words"),
    [
        ([0, 10], 10, "0 to 9"),
        ([-1, 3], 10, "-1"),
        ([-1, 3], None, "below 0"),
        ([2, 2, 2], 10, "class 2"),
        (["a", "a"], None, "'a'"),
        (["a", "b", "c"], 10, "3 classes"),
        ([[["a"]]], 2, "shape"),
        ([["a", "b"]], 2, "one name"),
        ([0.5, float("nan")], 1, "sample 1"),
        ([0.5, float("inf")], None, "sample 1"),
        ([0.5, 0.25], 3, "1 value a sample"),
        ([[0.5, 0.25]], 3, "2 values a sample"),
        ([1e300, 0.0], 1, "float32"),
        ([1j, 2j], 2, "complex"),
    ],
)
def test_labels_that_cannot_be_right_are_refused(labels: list, outputs: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        to_targets(np.array(labels), outputs)


def test_a_class_that_the_model_does_not_know_is_named() -> None:
    with pytest.raises(InputError, match=r"'dgo'.*cat, dog"):
        to_targets(np.array(["cat", "dgo"]), 2, ("cat", "dog"))


def test_code_points_that_are_no_characters_are_refused() -> None:
    with pytest.raises(InputError, match="not valid text"):
        to_targets(np.array([0x7FFFFFFF, 1], np.uint32).view("U1"), 2)
    with pytest.raises(InputError, match="not valid text"):
        to_targets(np.array([b"\xff", b"a"]), 2)
