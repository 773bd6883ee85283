from __future__ import annotations

import pytest

from compresskit.data.roles import find_roles, role_of
from compresskit.errors import InputError


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("x", ("train", "x")),
        ("Y", ("train", "y")),
        ("images", ("train", "x")),
        ("X_train", ("train", "x")),
        ("test-labels", ("test", "y")),
        ("val_images", ("validation", "x")),
        ("y_valid.npy", ("validation", "y")),
        ("t10k-labels.idx1-ubyte.gz", ("test", "y")),
        ("train-images-idx3-ubyte", ("train", "x")),
        ("x_mean", None),
        ("train", None),
        ("fine_labels", None),
        ("x_y", None),
        ("x_train_test", None),
        ("", None),
    ],
)
def test_roles(name: str, role: tuple[str, str] | None) -> None:
    assert role_of(name) == role


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["x", "x_train", "y"], "both 'x' and 'x_train'"),
        (["x"], "no train y"),
        (["x", "y", "y_test"], "no test x"),
        (["x_test", "y_test"], "no training samples"),
        ([], "among nothing; do this"),
    ],
)
def test_what_is_doubtful_or_missing_is_named(names: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_roles(names, "d.npz", "do this")
