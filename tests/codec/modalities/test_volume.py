from __future__ import annotations

import contextlib
import gzip
import struct
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from compresskit.codec.modalities import read, write
from compresskit.codec.modalities.parts import join_parts, split_parts
from compresskit.data.limits import Limits
from compresskit.errors import InputError, UsageError

MRI = Path(__file__).parents[3] / "../shared/data/mri"
TYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")


def nifti(values: np.ndarray, version: int = 1, order: str = "<", extension: bytes = b"", slope: float = float("nan")) -> bytes:
    """A file of `values` (x, y[, z[, t]]) as they are stored."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=order)
    header.set_data_dtype(values.dtype.newbyteorder(order))
    header.set_data_shape(values.shape)
    header["descrip"] = b"a header field"
    header["scl_slope"], header["scl_inter"] = slope, 3
    start = header.sizeof_hdr + 4 + (len(extension) + 8) * bool(extension)
    header["vox_offset"] = start
    extensions = struct.pack(f"{order}4B2i", 1, 0, 0, 0, len(extension) + 8, 6) + extension if extension else bytes(4)
    return header.binaryblock + extensions + values.astype(header.get_data_dtype()).tobytes("F")


def patched(offset: int, value: bytes) -> bytes:
    """A small file with other bytes in its header."""
    original = nifti(np.zeros((2, 2, 2), np.int16))
    return original[:offset] + value + original[offset + len(value) :]


@settings(max_examples=100)
@given(st.data())
def test_the_file_is_restored_byte_for_byte(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(TYPES)))
    floats = st.floats(-(2.0**100), 2.0**100, width=32) | st.just(np.nan)
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=4, max_side=4))
    values = data.draw(hnp.arrays(dtype, shape, elements=floats if dtype.kind == "f" else hnp.from_dtype(dtype)))
    extension = data.draw(st.sampled_from([b"", b"eight by", bytes(24)]))
    original = nifti(values, data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from("<>")), extension, slope=2.0)
    original += data.draw(st.sampled_from([b"", b"trailer"]))
    packed = gzip.compress(original)
    signal = read(packed, "x.nii.gz")
    assert (signal.format, signal.values.dtype) == ("nii.gz", dtype)
    x, y, z, t = (*shape, 1, 1)[:4]
    assert signal.values.shape == (t, x, y, z, 1)
    assert (signal.missing is not None) == bool(np.isnan(values).any())
    assert not np.isnan(signal.values).any()
    assert write(signal, "nii") == original
    assert write(read(original, "x.nii")) == original
    restored = write(signal)
    assert gzip.decompress(restored) == original
    assert restored[4:8] == bytes(4)  # no time


def test_samples_are_what_nibabel_finds_stored() -> None:
    values = np.random.default_rng(0).integers(-999, 999, (5, 4, 3, 2), np.int16)
    original = nifti(values, order=">", slope=0.5)
    image = nib.Nifti1Image.from_bytes(original)
    assert isinstance(image.dataobj, nib.arrayproxy.ArrayProxy)
    signal = read(original, "x.nii")
    np.testing.assert_array_equal(np.moveaxis(signal.values[..., 0], 0, -1), image.dataobj.get_unscaled())
    assert signal.values.flags.c_contiguous
    assert signal.scale.levels == int(values.max()) - int(values.min()) + 1
    assert signal.peak == float(values.max()) - float(values.min())


@pytest.mark.parametrize("path", sorted(MRI.glob("*.nii*")) or [None], ids=lambda path: path.name if path else "missing")
def test_scans_are_restored(path: Path | None) -> None:
    if path is None:
        pytest.skip("needs ../shared/data/mri")
    data = path.read_bytes()
    signal = read(data, path.name)
    assert write(signal, "nii") == (gzip.decompress(data) if signal.format == "nii.gz" else data)
    assert len(signal.metadata) < 256


def test_an_offset_of_zero_means_behind_the_header() -> None:
    original = patched(108, bytes(4))
    assert write(read(original, "x.nii")) == original


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (b"", "is empty"),
        (b"a text under this name\n" * 30, "no kind"),
        (patched(344, b"ni1\0"), "pair"),
        (patched(40, struct.pack("<8h", 3, *[32767] * 3, 1, 1, 1, 1)), "--max-bytes"),
        (patched(40, struct.pack("<8h", 7, *[32767] * 7)), "2 to 4 dimensions"),
        (patched(40, struct.pack("<8h", 3, 0, 2, 2, 1, 1, 1, 1)), "none of them empty"),
        (patched(40, struct.pack("<8h", 1, 8, 1, 1, 1, 1, 1, 1)), "2 to 4 dimensions"),
        (patched(40, struct.pack("<8h", 3, -1, 1, 1, 1, 1, 1, 1)), "header"),
        (patched(40, struct.pack("<8h", 900, 2, 2, 2, 1, 1, 1, 1)), "truncated|header|dimensions"),
        (patched(70, struct.pack("<h", 128)), "colours"),
        (patched(70, struct.pack("<h", 32)), "complex64"),
        (patched(70, struct.pack("<h", 1536)), "float|header"),
        (patched(70, struct.pack("<h", 999)), "damaged NIfTI header"),
        (patched(108, struct.pack("<f", float("nan"))), "damaged NIfTI header"),
        (patched(108, struct.pack("<f", float("inf"))), "damaged NIfTI header"),
        (patched(108, struct.pack("<f", 12.0)), "samples start at byte 12"),
        (patched(108, struct.pack("<f", 1e9)), "samples start at byte"),
        (nifti(np.array([[np.inf, 1]], np.float32)), "infinite"),
        (nifti(np.zeros((2, 2), np.uint8)) + bytes(2**20 + 1), "follow the 356"),
        (gzip.compress(nifti(np.zeros((2, 2), np.uint8)) + bytes(2**24)), "follow the 356"),
        (gzip.compress(patched(40, struct.pack("<8h", 3, *[32767] * 3, 1, 1, 1, 1))), "--max-bytes"),
        (gzip.compress(b"a text under this name\n" * 30), "no kind"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_what_is_no_volume_is_refused_in_one_line(original: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(original, "x.nii")
    assert str(caught.value).startswith("x.nii")
    assert "\n" not in str(caught.value)


def test_text_is_refused_under_a_format_that_the_user_names() -> None:
    with pytest.raises(InputError, match="is not a NIfTI file"):
        read(b"a text under this name\n" * 30, "x.nii", format="nii")


def test_a_huge_header_of_version_2_is_refused() -> None:
    original = bytearray(nifti(np.zeros((2, 2, 2), np.int16), version=2))
    original[16:80] = struct.pack("<8q", 4, 10**12, 10**12, 10**12, 10**12, 1, 1, 1)
    with pytest.raises(InputError, match="--max-bytes"):
        read(bytes(original), "x.nii")


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_every_truncation_is_refused(packed: bool) -> None:
    original = nifti(np.arange(60, dtype=np.int16).reshape(3, 4, 5), extension=b"eight by")
    data = gzip.compress(original) if packed else original
    for length in range(0, len(data), 3):
        with pytest.raises(InputError):
            read(data[:length], "x.nii")


@settings(max_examples=300)
@given(st.integers(0, 351), st.integers(1, 255))
def test_a_damaged_header_is_refused_or_kept(position: int, flip: int) -> None:
    original = bytearray(nifti(np.arange(24, dtype=np.int16).reshape(2, 3, 4)))
    original[position] ^= flip
    with contextlib.suppress(InputError):
        assert write(read(bytes(original), "x.nii")) == bytes(original)


def test_gzip_is_unpacked_within_the_limit_only() -> None:
    packed = gzip.compress(nifti(np.zeros((100, 100, 100), np.uint8)))
    with pytest.raises(InputError, match="--max-bytes"):
        read(packed, "x.nii.gz", limits=Limits(max_bytes=10**5))


def test_damaged_gzip_is_refused() -> None:
    packed = bytearray(gzip.compress(nifti(np.random.default_rng(0).integers(0, 255, (20, 20, 20), np.uint8))))
    packed[-5] ^= 1  # of the checksum
    with pytest.raises(InputError, match="damaged"):
        read(bytes(packed), "x.nii.gz")


def test_metadata_of_another_volume_is_refused() -> None:
    signal = read(nifti(np.zeros((2, 3, 4), np.int16)), "x.nii")
    for other in (np.zeros((2, 3, 5), np.int16), np.zeros((2, 3, 4), np.uint16)):
        with pytest.raises(InputError, match="does not fit"):
            write(replace(signal, metadata=read(nifti(other), "x.nii").metadata))
    holes, kept = split_parts(signal.metadata, 2)
    for length in (0, 100, 348, 351):
        with pytest.raises(InputError):
            write(replace(signal, metadata=join_parts(holes, kept[:length])))


@given(st.binary(max_size=60))
def test_damaged_metadata_is_refused(metadata: bytes) -> None:
    with pytest.raises(InputError):
        write(replace(read(nifti(np.zeros((2, 2), np.int16)), "x.nii"), metadata=metadata))


def test_a_variable_is_no_option() -> None:
    with pytest.raises(UsageError, match="no variables"):
        read(nifti(np.zeros((2, 2), np.int16)), "x.nii", variable="t")


def test_a_volume_from_a_library_is_restored() -> None:
    image = nib.Nifti1Image(np.random.default_rng(0).random((4, 5, 6), np.float32), np.diag([2, 2, 2, 1]))
    original = image.to_bytes()
    restored = nib.Nifti1Image.from_bytes(write(read(original, "x.nii")))
    np.testing.assert_array_equal(restored.affine, image.affine)
    np.testing.assert_array_equal(restored.get_fdata(), image.get_fdata())
