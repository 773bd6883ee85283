"""Texts come in as the ids of the training file's words, and reach a model like any other data."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compresskit.data import Dataset, Limits, batches, load_data
from compresskit.data.tokens import PADDING, UNKNOWN, encode, number_words, split_words, vocabulary_size
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization, TensorSpec
from compresskit.models.lift import graph_from_module
from compresskit.models.zoo import build

REVIEWS = "a good , good film\t1\na bad film\t0\nGood !\t1\nbad , bad\t0\n" * 3
WORDS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30)


def _load(folder: Path, text: str | bytes = REVIEWS, **options) -> Dataset:
    path = folder / "texts.tsv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_data(path, **{"input_shape": (6,), "outputs": 2, "vocabulary": 20} | options)


@given(st.lists(WORDS, max_size=6), st.integers(0, 12))
def test_ids_stand_for_the_most_frequent_words(texts: list[str], size: int) -> None:
    numbers = number_words(texts, size)
    assert sorted(numbers.values()) == list(range(2, 2 + len(numbers)))
    assert len(numbers) <= max(0, size - 2)
    everything = [word for text in texts for word in split_words(text)]
    counts = [everything.count(word) for word in numbers]
    assert counts == sorted(counts, reverse=True)
    assert min(counts, default=2) >= 2


@given(WORDS, st.integers(1, 8))
def test_texts_are_cut_and_padded_behind(text: str, length: int) -> None:
    words = list(split_words(text))
    numbers = {word: index for index, word in enumerate(dict.fromkeys(words[::2]), 2)}
    back = {number: word for word, number in numbers.items()} | {UNKNOWN: None}
    ids = encode(text, numbers, length).tolist()
    assert len(ids) == length
    assert [back[number] for number in ids if number != PADDING] == [word if word in numbers else None for word in words[:length]]
    assert PADDING not in ids[: len(words)]


@given(WORDS)
def test_words_lose_nothing_but_blanks_and_case(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.lower().split())


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_texts(packed: bool, tmp_path: Path) -> None:
    data = _load(tmp_path, gzip.compress(REVIEWS.encode()) if packed else REVIEWS)
    assert data.train.x.dtype == data.train.y.dtype == np.int64
    # bad 9 times, good 9, "," 6, a 6, film 6; "!" 3
    good = data.train.x[data.train.y == 1].tolist()
    assert {tuple(row) for row in good} <= {(5, 3, 4, 3, 6, 0), (3, 7, 0, 0, 0, 0)}
    assert (data.classes, data.normalization_source) == (2, "none, for token ids")
    ids, _ = next(iter(batches(data.train, data.normalization, 4, dtype=torch.float16)))
    assert torch.equal(ids, torch.from_numpy(data.train.x[:4]))


def test_a_second_file_is_the_test_split_in_the_words_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("text\tlabel\nbad music\t0\ngood\t1\n")
    (tmp_path / "train.tsv").write_text(REVIEWS)
    data = load_data(f"{tmp_path}/train.tsv,{tmp_path}/test.tsv", input_shape=(3,), outputs=2, vocabulary=20)
    assert data.test is not None
    assert data.test.x.tolist() == [[2, UNKNOWN, 0], [3, 0, 0]]
    assert data.test.y.tolist() == [0, 1]


def test_ids_of_the_users_own_are_taken_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "ids.npz", x_train=np.arange(60, dtype=np.int32).reshape(20, 3) % 7, y_train=np.arange(20) % 2)
    data = load_data(tmp_path / "ids.npz", input_shape=(3,), outputs=2, vocabulary=7)
    assert data.train.x.dtype == np.int64
    assert data.train.x.max() == 6


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("a b\tc d\t1\n" * 4, {}, ["3 columns", "texts and their labels"]),
        (REVIEWS, {"input_shape": (3, 8, 8)}, ["one row of token ids a text", "(3, 8, 8)"]),
        (REVIEWS, {"limits": Limits(max_bytes=400)}, ["--max-bytes"]),
        ("a b\t1\nc\t\n", {}, ["line 2", "label", "missing"]),
        ("a b\t1\nc d\t1\n", {}, ["all labels are class 1"]),
    ],
)
def test_texts_that_cannot_be_read(text: str, options: dict, words: list[str], tmp_path: Path, refused) -> None:
    with refused(*words):
        _load(tmp_path, text, **options)


def test_the_budget_stops_texts_while_they_are_read(tmp_path: Path, refused, little_memory) -> None:
    bomb = gzip.compress(b"a b\t1\n" * 2_000_000)
    with refused("--max-bytes"), little_memory():
        _load(tmp_path, bomb, limits=Limits(max_bytes=2**20))


@pytest.mark.parametrize("x", [np.full((20, 3), 7), np.full((20, 3), -1), np.full((20, 3), 1.0)])
def test_ids_that_the_model_does_not_know_are_refused(x: np.ndarray, tmp_path: Path, refused) -> None:
    np.savez(tmp_path / "ids.npz", x_train=x, y_train=np.arange(20) % 2)
    with refused("token ids, whole numbers from 0 to 6"):
        load_data(tmp_path / "ids.npz", input_shape=(3,), outputs=2, vocabulary=7)


def test_token_ids_have_no_normalization(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--mean/--std are for numbers"):
        _load(tmp_path, normalization=Normalization((0.5,), (1.0,)))


def test_how_many_ids_a_model_knows() -> None:
    bert = build("bert", width=0.1, vocabulary=50, tokens=8)
    assert vocabulary_size(graph_from_module(bert, [TensorSpec("input", (None, 8), torch.int64)], source="bert")) == 50
    assert vocabulary_size(graph_from_module(torch.nn.Linear(3, 2), [TensorSpec("input", (None, 3))], source="linear")) is None


def test_sst2(shared_data: Path) -> None:
    folder = shared_data / "text"
    data = load_data(f"{folder}/sst2_train.tsv,{folder}/sst2_dev.tsv", input_shape=(64,), outputs=2, vocabulary=8192)
    assert data.test is not None
    assert len(data.train) + len(data.validation) + len(data.test) == 7792
    assert 7000 < data.train.x.max() < 8192
    assert (data.test.x == UNKNOWN).mean() < 0.1 * (data.test.x != PADDING).mean()
