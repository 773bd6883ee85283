from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compresskit.data import load_data
from compresskit.data.source import SOURCES, absolute_location
from compresskit.errors import UsageError
from compresskit.models.graph import Normalization
from compresskit.requests import parse_location
from compresskit.wording import human

SHAPE = (3, 8, 8)


class Notes:
    """A Progress that keeps its notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, steps: int = 1, **figures: float) -> None: ...

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def npz(tmp_path: Path):
    def write(**arrays: np.ndarray) -> Path:
        np.savez(tmp_path / "d.npz", **arrays)
        return tmp_path / "d.npz"

    return write


def test_the_seed_decides_the_splits_and_they_do_not_overlap(npz, images) -> None:
    x, y = images(100)
    path = npz(x=x, y=y)
    first, again, other = (load_data(path, input_shape=SHAPE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.validation.x, again.validation.x)
    assert not np.array_equal(first.validation.x, other.validation.x)
    assert first.test is not None
    parts = [first.train, first.validation, first.test]
    assert sum(map(len, parts)) == 100
    assert len({sample.tobytes() for part in parts for sample in part.x}) == 100


def test_layout_follows_the_model(npz, images) -> None:
    x, y = images()
    path = npz(x=x, y=y)
    last = load_data(path, input_shape=(8, 8, 3))
    first = load_data(path, input_shape=(3, 8, 8))
    assert np.array_equal(last.train.x.transpose(0, 3, 1, 2), first.train.x)
    assert last.normalization == first.normalization


def test_integers_and_doubles_become_float32(npz, images) -> None:
    x, y = images()
    for dtype in (np.int64, np.uint16, np.float64, np.float16, bool):
        data = load_data(npz(x=x.astype(dtype), y=y), input_shape=SHAPE)
        assert data.train.x.dtype == np.float32
        assert data.train.x.flags.c_contiguous
        assert data.train.x.flags.writeable


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (x[:-1], y), ["(59, 8, 8, 3)", "(60,)"]),
        (lambda x, y: (x[:0], y[:0]), ["no train samples"]),
        (lambda x, y: (np.float32(3), np.float32(3)), ["shape ()"]),
        (lambda x, y: (x[:, :4], y), ["(4, 8, 3)", "(3, 8, 8)"]),
        (lambda x, y: (x.astype(complex), y), ["complex"]),
        (lambda x, y: (x.astype("U3"), y), ["dtype <U3"]),
        (lambda x, y: (x, y + 8), ["run from 8 to 10", "10 outputs"]),
        (lambda x, y: (x, y - 1), ["-1"]),
        (lambda x, y: (x, y * 0), ["class 0"]),
        (lambda x, y: (x, np.where(y, np.nan, 1.0)), ["NaN"]),
        (lambda x, y: (np.where(np.arange(60)[:, None, None, None] == 9, np.inf, x / 255), y), ["infinite", "sample 9"]),
    ],
)
def test_bad_data(change, words: list[str], npz, images, refused) -> None:
    x, y = change(*images())
    with refused("d.npz", *words):
        load_data(npz(x=x, y=y), input_shape=SHAPE, outputs=10)


def test_splits_that_differ_in_kind(npz, images, refused) -> None:
    x, y = images()
    with refused("splits differ"):
        load_data(npz(x=x, y=y, x_test=x, y_test=np.zeros((60, 2))), input_shape=SHAPE)


def test_a_flaw_in_a_later_split_is_named(npz, images, refused) -> None:
    x, y = images()
    with refused("test samples have shape"):
        load_data(npz(x=x, y=y, x_test=x, y_test=y[1:]), input_shape=SHAPE)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"\x80\x04\x95pickle\0", "known kind"), (bytes(range(128, 256)) * 9, "known kind"), (b"\x1f\x8bnot gzip", "damaged")],
)
def test_files_that_are_no_data(content: bytes, words: str, tmp_path: Path, refused) -> None:
    for suffix in ("npz", "npy", "csv", "gz", "bin"):
        (tmp_path / f"d.{suffix}").write_bytes(content)
        with refused(f"d.{suffix}", words):
            load_data(tmp_path / f"d.{suffix}", input_shape=SHAPE)


@pytest.mark.parametrize("source", ["absent.npz", "absent/", "a.npy,b.npy", "", "x" * 5000, "a\0b", ":", ",", "absent.npz:x,y"])
def test_what_is_not_there(source: str, refused) -> None:
    with refused("no such file or folder"):
        load_data(source, input_shape=SHAPE)


def test_half_a_pair(tmp_path: Path, idx_bytes, refused) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    (tmp_path / "x.idx").write_bytes(idx_bytes(np.zeros(3)))
    for name in ("x.npy", "x.idx"):
        with refused("give both"):
            load_data(tmp_path / name, input_shape=(1,))
    with refused("not a data set of a known kind"):
        load_data(f"{tmp_path}/x.npy,{tmp_path}/x.npy,{tmp_path}/x.npy", input_shape=(1,))


@pytest.mark.parametrize("fraction", [0.0, 0.5, -1.0, float("nan")])
def test_fractions_that_cannot_be(fraction: float) -> None:
    with pytest.raises(UsageError, match="fraction"):
        load_data("d.npz", input_shape=SHAPE, validation_fraction=fraction)


def test_floats_in_the_units_of_pixels_are_noted(npz, images) -> None:
    x, y = images()
    unit = Normalization((0.5,), (0.25,))
    for samples, expected in ((x.astype(np.float32), 1), (x, 0), (x / 255, 0)):
        notes = Notes()
        load_data(npz(x=samples, y=y), input_shape=SHAPE, checkpoint_normalization=unit, progress=notes)
        assert len(notes.notes) == expected
        assert all("uint8" in note for note in notes.notes)


def test_places_are_parsed(tmp_path: Path) -> None:
    path = tmp_path / "a:b,c.npz"
    path.touch()
    assert parse_location(str(path)) == ((path,), ())
    assert parse_location(f"{path}:x,y") == ((path,), ("x", "y"))
    assert parse_location("package.module:function") == ((), ("function",))
    assert parse_location(f"{path.parent},{path.parent}") == ((tmp_path, tmp_path), ())


@pytest.mark.parametrize("text", ["a:b.npz", "a:b.npz:x,y", "a:b.npz,../here", ".", "make.py:data", "package.module:function"])
def test_an_absolute_location_is_the_same_from_anywhere(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("a:b.npz", "make.py"):
        Path(name).touch()
    (paths, names), found = parse_location(text), absolute_location(text)
    expected = tuple(path.resolve() for path in paths), names
    monkeypatch.chdir(tmp_path)
    paths, names = parse_location(found)
    assert (tuple(path.resolve() for path in paths), names) == expected


def test_every_kind_is_registered() -> None:
    assert set(SOURCES) == {"code", "idx", "images", "npy", "npz", "table", "text"}


def test_bytes_in_words() -> None:
    assert [human(count) for count in (5, 1536, 2**31, 3 * 2**40)] == ["5 bytes", "1.5 KiB", "2 GiB", "3 TiB"]
