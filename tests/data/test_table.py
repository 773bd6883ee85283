from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.data import Dataset, Limits, load_data
from compresskit.data.limits import Budget
from compresskit.data.source import Raw, Request
from compresskit.data.table import _read
from compresskit.progress import SILENT


def _parse(path: Path, text: str | bytes, label: str | None = None) -> Raw:
    (path / "t").write_bytes(text.encode() if isinstance(text, str) else text)
    return _read(Request("t", (path / "t",), (), (1,), Budget(Limits()), label, SILENT))


def _load(path: Path, text: str | bytes, columns: int, **options) -> Dataset:
    (path / "t").write_bytes(text.encode() if isinstance(text, str) else text)
    return load_data(path / "t", input_shape=(columns,), **options)


@given(
    values=hnp.arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)),
    separator=st.sampled_from([",", "\t", ";"]),
    heading=st.booleans(),
    packed=st.booleans(),
)
def test_numbers_come_back(values: np.ndarray, separator: str, heading: bool, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [separator.join([*map(repr, row.tolist()), str(index)]) for index, row in enumerate(values)]
    if heading:
        rows.insert(0, separator.join([*(f"column{index}" for index in range(values.shape[1])), "label"]))
    text = "\r\n".join(rows).encode("utf-8-sig")
    raw = _parse(tmp_path_factory.mktemp("table"), gzip.compress(text) if packed else text)
    np.testing.assert_array_equal(raw.train.x, values)
    assert raw.train.y.tolist() == list(range(len(values)))


@pytest.mark.parametrize(
    ("text", "label", "features", "labels"),
    [
        ("a,label,b\n1,0,2\n3,1,4\n", None, [[1, 2], [3, 4]], [0, 1]),
        ("a,b\n1,0\n3,1\n", "a", [[0], [1]], [1, 3]),
        ("1,0\n3,1\n", "0", [[0], [1]], [1, 3]),
        ("1,0\n3,1\n", "-1", [[1], [3]], [0, 1]),
        ("label,0,1\n5,7,8\n6,9,9\n", None, [[7, 8], [9, 9]], [5, 6]),
        ("5.1,Iris-setosa\n4.9,Iris-virginica\n", None, [[5.1], [4.9]], ["Iris-setosa", "Iris-virginica"]),
        ("a,b\n1,0.5\n2,1\n", None, [[1], [2]], [0.5, 1.0]),
        ("kind,a,b\nx,1,0\ny,2,1\n,3,1\nx,4,0\n", None, [[1, 0, 1], [0, 1, 2], [0, 0, 3], [1, 0, 4]], [0, 1, 1, 0]),
        ("a,b\n1,0\n,1\n5,0\nNA,1\n", None, [[1], [3], [5], [3]], [0, 1, 0, 1]),
        ("kind,b\n?,0\nx,1\n7,0\n", None, [[0, 0], [0, 1], [1, 0]], [0, 1, 0]),
        ('a,b\n"1",x\n2,"y,z"\n', None, [[1], [2]], ["x", "y,z"]),
        ('kind\tb\n"x\t0\ny"\t1\n', None, [[1, 0], [0, 1]], [0, 1]),
    ],
    ids=[
        "label named",
        "by name",
        "by number",
        "from the end",
        "numbers as heading",
        "no heading",
        "floats",
        "categories",
        "missing",
        "numeric category",
        "quotes",
        "tsv",
    ],
)
def test_what_tables_mean(text: str, label: str | None, features: list, labels: list, tmp_path: Path) -> None:
    raw = _parse(tmp_path, text, label)
    np.testing.assert_array_equal(raw.train.x, np.array(features, np.float32))
    assert raw.train.y.tolist() == labels


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3\n", ["line 3", "1 cells", "expected 2"]),
        ("a,b\n1,2\nx,3\n", ["line 3", "'x'", "'a'"]),
        ("a,b\n1,2\n3,\n", ["line 3", "label", "'b'"]),
        ("a,b\n1,2\n", ["class 2", "two classes"]),
        ("a,b\n", ["two rows"]),
        ("just words\nand more\n", ["two columns"]),
        ("a,b\n" + "".join(f"word{i},{i % 2}\n" for i in range(99)), ["'a'", "text"]),
        ("a,b,c\nNA,1,0\nNA,2,1\n", ["'a'", "no values"]),
        ("a,b\n1,0\ninf,1\n2,0\n4,1\n", ["infinite"]),
        ("a,b\n1e300,0\n1,1\n2,0\n4,1\n", ["infinite"]),
        (b"a,b\n1,\xff\xfe\n", ["UTF-8"]),
        ("a,b\n1," + "x" * 200_000 + "\n", ["not a table"]),
        ("1" * 2**24, ["a line is over"]),
    ],
)
def test_tables_that_cannot_be_read(text: str | bytes, words: list[str], tmp_path: Path, refused) -> None:
    with refused(*words):
        _load(tmp_path, text, 1)


def test_an_unknown_column_lists_those_there_are(tmp_path: Path, refused) -> None:
    with refused("'price'", "size, cost"):
        _load(tmp_path, "size,cost\n1,2\n", 1, label_column="price")


def test_the_budget_stops_a_table_while_it_is_read(tmp_path: Path, refused, little_memory) -> None:
    bomb = gzip.compress(b"1,2,3\n" * 2_000_000)
    with refused("--max-bytes"), little_memory():
        _load(tmp_path, bomb, 2, limits=Limits(max_bytes=2**20))


def test_class_names_are_mapped_in_the_models_order(tmp_path: Path) -> None:
    text = "a,kind\n" + "1,red\n2,blue\n" * 10
    assert _load(tmp_path, text, 1, outputs=2).class_names == ("blue", "red")
    data = _load(tmp_path, text, 1, outputs=2, class_names=("red", "blue"))
    assert np.array_equal(data.train.y, data.train.x[:, 0].astype(int) - 1)


def test_california_housing(shared_data: Path) -> None:
    data = load_data(shared_data / "tabular/california_housing.csv", input_shape=(13,), outputs=1, label_column="median_house_value")
    assert data.classes is None
    assert len(data.train) + len(data.validation) + len(data.test or ()) == 20640
