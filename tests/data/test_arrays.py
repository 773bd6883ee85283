"""npz, npy and IDX: what was stored comes back, and damage and bombs are refused."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.data import Limits, load_data
from compresskit.data.idx import read_idx
from compresskit.data.limits import Budget
from compresskit.data.npy import read_npy
from compresskit.data.source import SOURCES, Request
from compresskit.errors import CompresskitError
from compresskit.progress import SILENT

SHAPE = (3, 8, 8)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def _claims(shape: str, descr: str = "'<f4'") -> bytes:
    """The head of an `.npy` that says that it holds an array of `shape`."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


arrays = hnp.arrays(
    st.one_of(hnp.integer_dtypes(endianness="?"), hnp.floating_dtypes(endianness="?"), st.just(np.dtype(bool)), hnp.unicode_string_dtypes()),
    hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4),
)


@settings(max_examples=1000)
@given(arrays, st.booleans())
def test_npy_comes_back(array: np.ndarray, fortran: bool) -> None:
    stored = np.asfortranarray(array) if fortran else array
    read = read_npy(io.BytesIO(_npy(stored)), "a", Budget(Limits()))
    np.testing.assert_array_equal(read, array)
    assert read.dtype == array.dtype


@settings(max_examples=1000)
@given(x=arrays, y=arrays, packed=st.booleans())
def test_npz_comes_back(x: np.ndarray, y: np.ndarray, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "back.npz"
    (np.savez_compressed if packed else np.savez)(path, x=x, y=y)
    raw = SOURCES["npz"].read(Request(str(path), (path,), (), (1,), Budget(Limits()), None, SILENT))
    for read, stored in ((raw.train.x, x), (raw.train.y, y)):
        np.testing.assert_array_equal(read, stored)
        assert read.dtype == stored.dtype


@settings(max_examples=1000)
@given(array=hnp.arrays(st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]), hnp.array_shapes(min_side=0, max_dims=4)), packed=st.booleans())
def test_idx_comes_back(array: np.ndarray, packed: bool, tmp_path_factory: pytest.TempPathFactory, idx_bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "back.idx"
    path.write_bytes(gzip.compress(idx_bytes(array)) if packed else idx_bytes(array))
    np.testing.assert_array_equal(read_idx(path, Budget(Limits())), array)


def _header(length: int, version: int = 1) -> bytes:
    """An `.npy` of one byte, 7, whose header is padded to `length` bytes."""
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}"
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(2 * version, "little") + text + b" " * (length - len(text) - 1) + b"\n\x07"


def test_npy_headers_of_both_versions(refused) -> None:
    for data in (_header(118), _header(118, 2), _header(9_000, 2)):
        assert read_npy(io.BytesIO(data), "a", Budget(Limits())).tolist() == [7]
    for version in (0, 3, 255):
        with refused("a: not a NumPy array (version 1 or 2"):
            read_npy(io.BytesIO(b"\x93NUMPY" + bytes([version]) + _header(118)[7:]), "a", Budget(Limits()))
    for start in (b"", b"\x93NUMPY", b"\x93NUMPZ\x01\x00" + bytes(200)):
        with refused("a: not a NumPy array"):
            read_npy(io.BytesIO(start), "a", Budget(Limits()))


def test_an_npy_header_that_claims_much_is_not_read(refused) -> None:
    """The stream stands where it stood: NumPy's own limit comes after the reading."""
    for claimed, words, at in ((2**16 + 1, "a header of 65537 bytes", 12), (2**16, "damaged header", 12 + 2**16)):
        stream = io.BytesIO(b"\x93NUMPY\x02\x00" + claimed.to_bytes(4, "little") + b" " * 2**17)
        with refused(words):
            read_npy(stream, "a", Budget(Limits()))
        assert stream.tell() == at


@pytest.mark.parametrize("dtype", ["c8", "M8[s]", "m8[s]", "V4"])
def test_npy_of_what_is_no_number_and_no_label(dtype: str, refused) -> None:
    with refused("a: has dtype", "expected numbers, or strings for labels"):
        read_npy(io.BytesIO(_npy(np.zeros(2, dtype))), "a", Budget(Limits()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an IDX file"),
        (b"\0\0\x08", "not an IDX file"),
        (b"\0\1\x08\1\0\0\0\1\7", "not an IDX file"),
        (b"\1\0\x08\1\0\0\0\1\7", "not an IDX file"),
        (b"\0\0\x0a\1\0\0\0\1\7", "not an IDX file"),
        (b"\0\0\x08\0\7", "not an IDX file"),
        (b"\0\0\x08\x09" + b"\0\0\0\1" * 9 + b"\7", "not an IDX file"),
        (b"\0\0\x08\2\0\0\0\1\0\0\0", "truncated in its header"),
        (b"\0\0\x08\1\0\0\0\2\7", "truncated: 1 of 2 bytes"),
        (b"\0\0\x08\1\0\0\0\1\7\7", "holds more bytes"),
    ],
    ids=["empty", "short", "second byte", "first byte", "type", "no axes", "nine axes", "axes cut", "values cut", "values left"],
)
def test_idx_headers(content: bytes, said: str, tmp_path: Path, refused) -> None:
    path = tmp_path / "d"
    path.write_bytes(content)
    with refused(f"{path}: {said}"):
        read_idx(path, Budget(Limits()))
    path.write_bytes(b"\0\0\x08\x08" + b"\0\0\0\1" * 8 + b"\7")
    assert read_idx(path, Budget(Limits())).tolist() == [[[[[[[[7]]]]]]]]


@pytest.mark.parametrize("format", ["npy", "idx"])
def test_one_array_is_no_data_set(format: str, tmp_path: Path, images, idx_bytes, refused) -> None:
    (tmp_path / "d").write_bytes(_npy(images()[0]) if format == "npy" else idx_bytes(images()[0]))
    with refused(f"{tmp_path / 'd'}: is samples or labels alone; give both"):
        load_data(tmp_path / "d", input_shape=SHAPE)


@pytest.mark.parametrize(
    "keys",
    [
        ("x", "y"),
        ("images", "labels"),
        ("X", "Y"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "val_images", "val_labels"),
    ],
)
def test_npz_keys_play_their_role(keys: tuple[str, ...], tmp_path: Path, images) -> None:
    stored = dict(zip(keys, images(60) + images(30, seed=1), strict=False))
    np.savez_compressed(tmp_path / "d.npz", **stored, x_mean=np.zeros(3))
    data = load_data(tmp_path / "d.npz", input_shape=SHAPE, outputs=3)
    sizes = {"x_train": (54, 6, 30), "train_images": (60, 30, 0)}.get(keys[0], (48, 6, 6))
    assert (len(data.train), len(data.validation), len(data.test or ())) == sizes
    assert data.train.x.dtype == np.uint8
    assert data.train.x.shape[1:] == SHAPE
    if len(keys) == 4:
        held = data.test or data.validation
        assert np.array_equal(held.x.transpose(0, 2, 3, 1), stored[keys[2]])
        assert np.array_equal(held.y, stored[keys[3]])


def test_named_keys(tmp_path: Path, images, refused) -> None:
    x, y = images()
    np.savez(tmp_path / "d.npz", pictures=x, kinds=y, more=x[:9], more_kinds=y[:9])
    assert len(load_data(f"{tmp_path}/d.npz:pictures,kinds", input_shape=SHAPE).train) == 48
    assert len(load_data(f"{tmp_path}/d.npz:pictures,kinds,more,more_kinds", input_shape=SHAPE).test or ()) == 9
    with refused("'nope'", "pictures"):
        load_data(f"{tmp_path}/d.npz:nope,kinds", input_shape=SHAPE)
    with refused("two or four keys"):
        load_data(f"{tmp_path}/d.npz:pictures", input_shape=SHAPE)
    with refused("pictures", "d.npz:IMAGES,LABELS"):
        load_data(tmp_path / "d.npz", input_shape=SHAPE)


def test_npy_pair_and_folders_agree(tmp_path: Path, images, idx_bytes) -> None:
    x, y = images()
    for folder, names in (("npy", ("x.npy", "y.npy")), ("idx", ("train-images-idx4-ubyte.gz", "train-labels-idx1-ubyte"))):
        (tmp_path / folder).mkdir()
        for name, array in zip(names, (x, y.astype(np.uint8)), strict=True):
            content = idx_bytes(array) if folder == "idx" else _npy(array)
            (tmp_path / folder / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    sources = [
        f"{tmp_path}/npy/x.npy,{tmp_path}/npy/y.npy",
        tmp_path / "npy",
        tmp_path / "idx",
        f"{tmp_path}/idx/train-images-idx4-ubyte.gz,{tmp_path}/idx/train-labels-idx1-ubyte",
    ]
    sets = [load_data(source, input_shape=SHAPE, seed=5) for source in sources]
    for other in sets[1:]:
        assert np.array_equal(other.validation.x, sets[0].validation.x)
        assert np.array_equal(other.validation.y, sets[0].validation.y)


def test_mnist_file_names(tmp_path: Path, images, idx_bytes) -> None:
    x, y = images(40, (28, 28))
    for split in ("train", "t10k"):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx_bytes(y.astype(np.uint8)))
    data = load_data(tmp_path, input_shape=(1, 28, 28), outputs=3)
    assert data.test is not None
    assert np.array_equal(data.test.x[:, 0], x)


BOMBS = {
    "claims 2**80 values": (_claims("(1099511627776, 1099511627776)"), "--max-bytes"),
    "claims 3 GiB": (_claims("(805306368,)"), "--max-bytes"),
    "claims empty strings": (_claims("(1152921504606846976,)", "'<U0'"), "its header declares shape"),
    "claims less than nothing": (_claims("(-1, 5)"), "its header declares shape (-1, 5)"),
    "header of 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100, "a header of 4294967295 bytes"),
    "header of nested brackets": (_claims("(" * 9000), "damaged header"),
    "claims 1 GiB and has nothing": (_claims("(1073741824,)", "'|u1'"), "truncated: 1048576 of 1073741824 bytes"),
}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("kind", ["npy", "npy.gz", "npz"])
def test_npy_bombs(name: str, kind: str, tmp_path: Path, refused, little_memory) -> None:
    start, said = BOMBS[name]
    content = start + bytes(2**20)
    np.save(tmp_path / "y.npy", np.arange(4))
    if kind == "npz":
        with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
            archive.write(tmp_path / "y.npy", "y.npy")
        source = f"{tmp_path}/bomb"
    else:
        (tmp_path / "bomb").write_bytes(gzip.compress(content) if kind == "npy.gz" else content)
        source = f"{tmp_path}/bomb,{tmp_path}/y.npy"
    # tracemalloc counts an allocation in full, although its pages are never touched
    with refused("bomb", said), little_memory(2**31 if "1 GiB" in name else 2**26):
        load_data(source, input_shape=(4,))


def test_more_than_any_machine_holds_is_one_line_whatever_the_limit(tmp_path: Path, refused) -> None:
    (tmp_path / "x.npy").write_bytes(_claims("(1152921504606846976,)", "'|u1'"))
    np.save(tmp_path / "y.npy", np.arange(4))
    with refused("not enough memory for", "x.npy", "use fewer samples"):
        load_data(f"{tmp_path}/x.npy,{tmp_path}/y.npy", input_shape=(1,), limits=Limits(max_bytes=2**62))


def test_bombs_that_are_what_they_claim(tmp_path: Path, refused, little_memory) -> None:
    zeros = gzip.compress(bytes(2**20)) * 200  # 200 MiB in 200 KiB
    head = struct.pack(">BBBBI", 0, 0, 8, 1, 200 * 2**20)
    (tmp_path / "x.gz").write_bytes(gzip.compress(head) + zeros)
    (tmp_path / "y").write_bytes(struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(4))
    with refused("x.gz", "--max-bytes"), little_memory():
        load_data(f"{tmp_path}/x.gz,{tmp_path}/y", input_shape=(1,), limits=Limits(max_bytes=100 * 2**20))
    (tmp_path / "x.gz").write_bytes(gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 5)) + zeros)
    with refused("x.gz", "more bytes"), little_memory():
        load_data(f"{tmp_path}/x.gz,{tmp_path}/y", input_shape=(1,))


def test_the_budget_is_for_all_arrays_together(tmp_path: Path, images, refused) -> None:
    x, y = images()
    np.savez(tmp_path / "d.npz", x=x, y=y)
    total = x.nbytes + y.nbytes
    load_data(tmp_path / "d.npz", input_shape=SHAPE, limits=Limits(max_bytes=total))
    with refused("--max-bytes", "d.npz[y]"):
        load_data(tmp_path / "d.npz", input_shape=SHAPE, limits=Limits(max_bytes=total - 1))


class Payload:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("executed"),))


def test_pickles_are_never_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images, refused) -> None:
    monkeypatch.chdir(tmp_path)
    evil = np.array([Payload(), Payload()], object)
    np.savez("d.npz", x=images(2)[0], y=evil)
    with refused("never loaded"):
        load_data("d.npz", input_shape=SHAPE)
    np.save("x.npy", evil)
    with refused("never loaded"):
        load_data("x.npy,x.npy", input_shape=SHAPE)
    np.save("x.npy", np.zeros(2, "i4,f4"))
    with refused("dtype"):
        load_data("x.npy,x.npy", input_shape=SHAPE)
    assert not Path("executed").exists()


@pytest.mark.parametrize("kind", ["npz", "npz stored", "npy", "idx", "idx.gz"])
def test_every_truncation_and_many_flips_are_ours_to_refuse(kind: str, tmp_path: Path, images, idx_bytes) -> None:
    """A checksum or a length notices each one, or the array that comes is of the declared size."""
    x, y = images(12, (2, 2))
    np.save(tmp_path / "y.npy", y)
    buffer = io.BytesIO()
    if kind.startswith("npz"):
        (np.savez if "stored" in kind else np.savez_compressed)(buffer, x=x, y=y)
    content = {"npy": _npy(x), "idx": idx_bytes(x), "idx.gz": gzip.compress(idx_bytes(x))}.get(kind, buffer.getvalue())
    source = f"{tmp_path}/d" if kind.startswith("npz") else f"{tmp_path}/d,{tmp_path}/y.npy"
    if kind.startswith("idx"):
        (tmp_path / "y.npy").write_bytes(idx_bytes(y.astype(np.uint8)))

    def outcome(mutant: bytes) -> bool:
        (tmp_path / "d").write_bytes(mutant)
        try:
            data = load_data(source, input_shape=(1, 2, 2), limits=Limits(max_bytes=2**20))
        except CompresskitError:
            return True
        assert data.train.x.shape[1:] == (1, 2, 2)
        return False

    assert not outcome(content)
    rng = np.random.default_rng(0)
    assert all(outcome(content[:length]) for length in rng.integers(0, len(content), 60))
    for position in rng.integers(0, len(content), 150):
        mutant = bytearray(content)
        mutant[position] ^= 1 << int(rng.integers(8))
        outcome(bytes(mutant))


def test_names_from_archives_stay_on_one_line(tmp_path: Path, refused) -> None:
    with zipfile.ZipFile(tmp_path / "d", "w") as archive:
        archive.writestr("a\n\x1b[2J.npy", b"")
    with refused(r"'a\n\x1b[2J'"):
        load_data(tmp_path / "d", input_shape=(1,))
    with refused(r"'a\n\x1b[2J'"):
        load_data(f"{tmp_path}/d:a\n\x1b[2J,x", input_shape=(1,))


def test_odd_archives(tmp_path: Path, refused) -> None:
    with zipfile.ZipFile(tmp_path / "d", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with refused("without NumPy arrays"):
        load_data(tmp_path / "d", input_shape=(1,))
    zipfile.ZipFile(tmp_path / "d", "w").close()
    with refused("without NumPy arrays"):
        load_data(tmp_path / "d", input_shape=(1,))


def test_shared_files_load(shared_data: Path) -> None:
    data = load_data(shared_data / "mnist_fashion/mnist_t10k_first7500.npz", input_shape=(784, 1), outputs=10)
    assert data.train.x.shape[1:] == (784, 1)
    assert data.normalization.mean[0] == pytest.approx(0.1307, abs=0.005)
