from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compresskit.data import Limits, load_data
from compresskit.data.images import read_image
from compresskit.data.limits import Budget

BUDGET = Budget(Limits())


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _folder(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 10) -> None:
    """Images of one colour for each class: 10, 20, ..."""
    for number, name in enumerate(names, 1):
        for index in range(count):
            _save(root / name / f"{index}.png", np.full((9, 7, 3), 10 * number, np.uint8))


def _png_of(width: int, height: int) -> bytes:
    """A PNG whose header declares a size and whose pixels are missing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT\0\0\0\0" + struct.pack(">I", zlib.crc32(b"IDAT\0\0\0\0"))


@pytest.mark.parametrize("shape", [(3, 8, 6), (8, 6, 3), (1, 8, 6), (8, 6)])
def test_folders_are_classes(shape: tuple[int, ...], tmp_path: Path) -> None:
    _folder(tmp_path)
    data = load_data(tmp_path, input_shape=shape, outputs=2)
    assert data.class_names == ("cat", "dog")
    assert data.train.x.shape == (16, *shape)
    assert (data.train.x.reshape(16, -1) == 10 * (data.train.y[:, None] + 1)).all()


def test_split_folders_are_splits_and_share_their_classes(tmp_path: Path) -> None:
    _folder(tmp_path / "train", ("a", "b", "c"), 4)
    _folder(tmp_path / "val", ("c", "b"), 3)
    data = load_data(tmp_path, input_shape=(1, 8, 8), outputs=3)
    assert (len(data.train), len(data.validation), data.test) == (12, 6, None)
    assert sorted(set(data.validation.y)) == [1, 2]
    _folder(tmp_path / "test", ("a", "c"), 2)
    assert len(load_data(tmp_path, input_shape=(1, 8, 8)).test or ()) == 4


def test_an_image_of_the_right_size_comes_through_unchanged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    _save(tmp_path / "a.png", pixels)
    assert np.array_equal(read_image(tmp_path / "a.png", 3, 5, 6, BUDGET), pixels)
    assert read_image(tmp_path / "a.png", 1, 5, 6, BUDGET).shape == (5, 6, 1)
    assert read_image(tmp_path / "a.png", 4, 5, 6, BUDGET)[..., 3].min() == 255


def test_shrinking_averages(tmp_path: Path) -> None:
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    _save(tmp_path / "a.png", checkers.astype(np.uint8))
    assert np.ptp(read_image(tmp_path / "a.png", 1, 8, 8, BUDGET)[1:-1, 1:-1].astype(int) - 127) <= 3


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", np.array([[0, 256, 32768, 65535]], np.uint16))
    assert read_image(tmp_path / "a.png", 1, 1, 4, BUDGET).ravel().tolist() == [0, 1, 128, 255]


def test_the_limit_on_pixels_is_the_last_size_that_passes(tmp_path: Path, refused) -> None:
    _save(tmp_path / "a.png", np.zeros((5, 7), np.uint8))
    assert read_image(tmp_path / "a.png", 1, 5, 7, Budget(Limits(max_pixels=35))).shape == (5, 7, 1)
    with refused("a.png: 7x5 is over 34 pixels", "--max-pixels"):
        read_image(tmp_path / "a.png", 1, 5, 7, Budget(Limits(max_pixels=34)))


def test_integers_outside_sixteen_bits_are_clipped(tmp_path: Path) -> None:
    _save(tmp_path / "a.tiff", np.array([[-70_000, -1, 256, 70_000]], np.int32))
    assert read_image(tmp_path / "a.tiff", 1, 1, 4, BUDGET).ravel().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("size", [(6000, 6000), (20000, 20000), (2**31 - 1, 2**31 - 1)])
def test_image_bombs(size: tuple[int, int], tmp_path: Path, refused, little_memory) -> None:
    _folder(tmp_path)
    (tmp_path / "cat/bomb.png").write_bytes(_png_of(*size))
    with refused("bomb.png", "--max-pixels"), little_memory():
        load_data(tmp_path, input_shape=(3, 8, 8))


def test_a_folder_over_the_budget_is_refused_before_it_is_read(tmp_path: Path, refused) -> None:
    _folder(tmp_path)
    (tmp_path / "cat/0.png").write_bytes(b"never looked at")
    with refused("20 images", "--max-bytes"):
        load_data(tmp_path, input_shape=(3, 8, 8), limits=Limits(max_bytes=20 * 192 - 1))


def test_damaged_images_are_named(tmp_path: Path, refused) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(buffer, "PNG")
    good = buffer.getvalue()
    rng = np.random.default_rng(1)
    for bad in (
        b"",
        b"%!PS-Adobe EPSF\n%%BoundingBox: 0 0 5 5\n",
        rng.bytes(500),
        _png_of(0, 5),
        *(good[:length] for length in rng.integers(0, len(good) - 40, 20)),
    ):
        (tmp_path / "bad.png").write_bytes(bad)
        with refused("bad.png", "not a readable image"):
            read_image(tmp_path / "bad.png", 3, 8, 8, BUDGET)


def _damaged_tiff() -> bytes:
    """One whose checksum, behind its pixels, does not match."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "TIFF", compression="tiff_deflate")
    data = bytearray(buffer.getvalue())
    data[data.index(b"\x78\x9c") + 1000] ^= 1
    return bytes(data)


def test_libtiff_does_not_write_to_stderr_what_the_error_says(tmp_path: Path, refused, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.tiff").write_bytes(_damaged_tiff())
    with refused("a.tiff: not a readable image"):
        read_image(tmp_path / "a.tiff", 3, 8, 8, BUDGET)
    os.write(2, b"open again")
    assert capfd.readouterr().err == "open again"


def test_a_tiff_is_read_where_stderr_is_closed(tmp_path: Path) -> None:
    """The file that is opened first is then number 2."""
    path = tmp_path / "a.tiff"
    Image.new("L", (3, 2), 7).save(path, compression="tiff_deflate")
    script = (
        "import sys; from pathlib import Path; from compresskit.data.images import read_image; from compresskit.data.limits import Budget, Limits\n"
        "print(read_image(Path(sys.argv[1]), 1, 2, 3, Budget(Limits())).ravel().tolist())\n"
    )
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", script, path], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, f"{[7] * 6}\n")


def test_folders_that_are_not_data(tmp_path: Path, refused) -> None:
    with refused("no data files and no folders"):
        load_data(tmp_path, input_shape=(3, 8, 8))
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/notes.txt").write_text("no image")
    with refused("cat", "no images"):
        load_data(tmp_path, input_shape=(3, 8, 8))
    _folder(tmp_path, ("cat",))
    with refused("'cat'", "two classes"):
        load_data(tmp_path, input_shape=(3, 8, 8))
    _folder(tmp_path, ("dog",))
    with refused("2 classes", "10 outputs"):
        load_data(tmp_path, input_shape=(3, 8, 8), outputs=10)
    with refused("(784,)"):
        load_data(tmp_path, input_shape=(784,))
