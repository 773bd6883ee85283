from __future__ import annotations

import io
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from compresskit.codec.modalities import MODALITIES, default_output, format_of_name, formats, read, sniff, write
from compresskit.errors import InputError, UsageError


def _png() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (9, 8, 7)).save(stream, "png")
    return stream.getvalue()


def _wav() -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, np.arange(9, dtype=np.int16), 8000, format="WAV")
    return stream.getvalue()


FILES = {"png": _png(), "wav": _wav()}
LIBRARIES = ("soundfile", "nibabel", "xarray", "h5netcdf", "scipy")


def test_no_two_modalities_share_a_format() -> None:
    every = list(chain.from_iterable(modality.formats for modality in MODALITIES.values()))
    assert sorted(every) == sorted(set(every)) == sorted(formats())


def test_every_format_is_restored_in_one_of_its_modality() -> None:
    for modality in MODALITIES.values():
        assert {modality.default_output(format) for format in modality.formats} <= set(modality.formats)


@pytest.mark.parametrize(("format", "modality"), [("png", "image"), ("wav", "audio")])
@pytest.mark.parametrize("name", ["a", "a.png", "a.wav", "a.nii.gz", "a.txt"])
def test_content_decides_not_the_name(format: str, modality: str, name: str) -> None:
    data = FILES[format]
    assert sniff(data, name) == (modality, format)
    signal = read(data, name)
    assert (signal.modality, signal.format, signal.name, default_output(signal)) == (modality, format, name, format)
    assert np.array_equal(read(write(signal), name).values, signal.values)


@pytest.mark.parametrize("name", ["a.png", "a.wav", "a.nii", "a.nii.gz", "a.nc", "a.npy", "a.npz", "a"])
@pytest.mark.parametrize("data", [b"Dear reader,\nthis is a letter.\n" * 40, b"\n", bytes(1000)], ids=["text", "newline", "zeros"])
def test_other_files_are_refused_whatever_their_suffix(name: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(data, name)
    assert str(caught.value) == f"{name}: its content is of no kind that can be encoded; known are {', '.join(formats())}"


def test_empty_files_are_refused() -> None:
    with pytest.raises(InputError, match=r"^a\.png: is empty"):
        read(b"", "a.png")
    with pytest.raises(InputError, match=r"^a\.png: is empty"):
        read(b"", "a.png", format="png")


@given(st.sampled_from(sorted(formats())), st.binary(min_size=1, max_size=200))
@settings(max_examples=150)
def test_random_bytes_under_any_format_are_refused_in_one_line(format: str, data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read(data, "noise.dat", format=format)
    assert "noise.dat" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value)


def test_names_are_escaped() -> None:
    for data in (b"", b"text", FILES["png"][:40]):
        with pytest.raises(InputError) as caught:
            read(data, "a\n\x1b[31mb.png")
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a.png", "png"),
        ("b.JPG", "jpeg"),
        ("x.y.tif", "tiff"),
        ("scan.nii.gz", "nii.gz"),
        ("v1.2.wav", "wav"),
        ("a", None),
        ("a.gz", None),
        ("png", None),
    ],
)
def test_formats_of_names(name: str, format: str | None) -> None:
    assert format_of_name(name) == format


@pytest.mark.parametrize("word", ["jpg", "JPEG", ".jpg"])
def test_a_format_has_several_words(word: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3)).save(stream, "jpeg")
    assert read(stream.getvalue(), "-", format=word).format == "jpeg"


def test_unknown_and_foreign_formats_list_the_choices() -> None:
    with pytest.raises(UsageError, match=r"unknown format 'gif': choose from .*png"):
        read(FILES["png"], "a.png", format="gif")
    with pytest.raises(UsageError, match="image data cannot be written as wav: choose from png"):
        write(read(FILES["png"], "a.png"), "wav")


@pytest.mark.parametrize("format", sorted(FILES))
def test_variables_are_for_files_that_have_some(format: str) -> None:
    with pytest.raises(UsageError, match="has no variables to choose from; leave out 't2m'"):
        read(FILES[format], "a", variable="t2m")


def test_a_picture_needs_no_library_for_other_kinds_and_sound_needs_one() -> None:
    loaded = f"print(*(name for name in {LIBRARIES!r} if name in sys.modules))"
    script = (
        f"import sys\nfrom compresskit.codec.modalities import read\nread({FILES['png']!r}, 'a')\n{loaded}\nread({FILES['wav']!r}, 'a')\n{loaded}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "soundfile"]
