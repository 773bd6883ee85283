from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compresskit.data import Dataset, Limits, load_data

HEAD = """
import numpy as np, torch
from torch.utils.data import DataLoader, TensorDataset, IterableDataset
def xy(n, offset=0):
    return torch.arange(offset, offset + n).float()[:, None].repeat(1, 2), torch.arange(n) % 2
class Stream(IterableDataset):
    def __iter__(self):
        while True:
            yield np.zeros(1000, np.float32), 1
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Dataset]:
    def run(body: str, **options) -> Dataset:
        (tmp_path / "mine.py").write_text(f"{HEAD}\ndef data():\n    {body}\n")
        return load_data(f"{tmp_path}/mine.py:data", input_shape=(2,), **options)

    return run


@pytest.mark.parametrize(
    "body",
    [
        "return (*xy(40), *xy(10, 100))",
        "return xy(40), xy(10, 100)",
        "return tuple(t.numpy() for t in (*xy(40), *xy(10, 100)))",
        "x, y = xy(40); a, b = xy(10, 100); return dict(x_train=x, y_train=y, x_test=a, y_test=b)",
        "return TensorDataset(*xy(40)), TensorDataset(*xy(10, 100))",
        "return DataLoader(TensorDataset(*xy(40)), 7), DataLoader(TensorDataset(*xy(10, 100)), 7)",
        "return DataLoader(TensorDataset(*xy(40)), batch_size=None), [list(zip(*xy(10, 100)))][0]",
    ],
    ids=["four tensors", "two pairs", "four arrays", "dict", "datasets", "loaders", "samples"],
)
def test_every_accepted_form_gives_the_same_data(body: str, load: Callable[..., Dataset]) -> None:
    data = load(body, outputs=2)
    assert data.test is not None
    assert data.test.x[:, 0].tolist() == list(range(100, 110))
    assert data.test.y.tolist() == [0, 1] * 5
    assert sorted([*data.train.x[:, 0], *data.validation.x[:, 0]]) == list(range(40))
    assert data.normalization_source.startswith("as delivered by")


def test_three_parts_are_train_validation_test(load: Callable[..., Dataset]) -> None:
    data = load("return TensorDataset(*xy(40)), TensorDataset(*xy(20)), TensorDataset(*xy(10))")
    assert (len(data.train), len(data.validation), len(data.test or ())) == (40, 20, 10)


def test_one_part_is_split_in_three(load: Callable[..., Dataset]) -> None:
    data = load("return TensorDataset(*xy(40))")
    assert (len(data.train), len(data.validation), len(data.test or ())) == (32, 4, 4)


def test_uint8_from_code_is_pixels(load: Callable[..., Dataset]) -> None:
    data = load("x, y = xy(40); return x.to(torch.uint8), y")
    assert data.normalization_source == "computed from 32 training samples"


def test_arrays_are_copies(load: Callable[..., Dataset], tmp_path: Path) -> None:
    data = load("x = np.broadcast_to(np.float32(3), (40, 2)); x.flags.writeable = False; return x, np.arange(40) % 2")
    data.train.x[0] = 1
    assert data.train.x[1:].min() == 3


def test_modules_are_found_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "found_here.py").write_text(HEAD + "def data(): return xy(40)")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    assert len(load_data("found_here:data", input_shape=(2,)).train) == 32
    assert sys.path == path


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('a\\nb')", ["mine.py:data", "KeyError"]),
        ("return 5", ["int", "return (x, y)"]),
        ("return 1, 2, 3, 4, 5", ["5 values"]),
        ("return dict(a=np.zeros(3))", ["among a"]),
        ("return [], []", ["no samples"]),
        ("return [(1, 2, 3)], [(1, 2, 3)]", ["expected pairs"]),
        ("return xy(40)[0], xy(39)[1]", ["(40, 2)", "(39,)"]),
        ("x, y = xy(40); x[7] = float('nan'); return x, y", ["NaN", "sample 7"]),
        ("return Stream()", ["--max-bytes"]),
        ("return [(np.zeros(2), 0), (np.zeros(3), 1)], xy(3)", ["mine.py:data"]),
    ],
)
def test_what_cannot_be_used_is_refused(body: str, words: list[str], load: Callable[..., Dataset], refused) -> None:
    with refused(*words):
        load(body, limits=Limits(max_bytes=2**20))


def test_functions_that_are_not_there(tmp_path: Path, refused) -> None:
    (tmp_path / "mine.py").write_text("value = 3\n")
    (tmp_path / "broken.py").write_text("def broken(:\n")
    for source, words in (
        ("mine.py:data", "no function 'data'"),
        ("mine.py:value", "no function"),
        ("broken.py:f", "SyntaxError"),
        ("absent.py:f", "no such file"),
    ):
        with refused(words):
            load_data(f"{tmp_path}/{source}", input_shape=(2,))
    with refused("ModuleNotFoundError"):
        load_data("no_such_module_anywhere:f", input_shape=(2,))


def test_values_are_those_of_the_arrays(load: Callable[..., Dataset]) -> None:
    data = load("return np.random.default_rng(3).random((40, 2)), np.arange(40) % 2")
    assert set(np.unique(data.train.x)) <= set(np.random.default_rng(3).random((40, 2)).astype(np.float32).ravel())
