"""Previews: a whole picture for every kind of signal, without a trace in Matplotlib's global state."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from compresskit.codec.modalities import read
from compresskit.codec.modalities.audio import AudioMetadata
from compresskit.codec.preview import check_preview, draw, render
from compresskit.codec.signal import Scale, Signal
from compresskit.errors import OutputError, UsageError

SAMPLES = Path(__file__).parents[2] / "sample_data"
RED, GREEN = (255, 0, 0), (0, 255, 0)


def _noisy(signal: Signal, amplitude: float) -> Signal:
    noise = np.random.default_rng(0).uniform(-amplitude, amplitude, signal.values.shape)
    return replace(signal, values=(signal.values + noise).astype(signal.values.dtype))


def _array(values: NDArray[np.generic], **changes: object) -> Signal:
    """A signal without a file behind it."""
    levels = 256 if values.dtype == np.uint8 else 1001
    return replace(Signal(values, "array", "npy", Scale(0, 1, levels), float(levels - 1)), **changes)  # type: ignore[arg-type]


def _pixels(drawing: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(drawing)) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize("name", ["phantom.nii.gz", "tone.wav", "temperature.npz"])
def test_every_kind_is_drawn(tmp_path: Path, name: str) -> None:
    signal = read((SAMPLES / name).read_bytes(), name)
    draw(signal, _noisy(signal, 20.0), tmp_path / "preview.png")
    pixels = _pixels((tmp_path / "preview.png").read_bytes())
    assert pixels.shape[1] == 1200
    thirds = np.array_split(pixels, 3, axis=1)
    assert all(len(np.unique(third)) > 20 for third in thirds)  # something is in each of the three columns


def test_original_and_reconstruction_are_beside_each_other() -> None:
    original = _array(np.full((1, 20, 20, 3), RED, np.uint8))
    pixels = _pixels(render(original, replace(original, values=np.full((1, 20, 20, 3), GREEN, np.uint8)), ".png"))
    red, green = (np.flatnonzero((pixels == colour).all(axis=2).sum(axis=0) > 100) for colour in (RED, GREEN))
    assert len(red) == len(green) > 100
    assert red.max() < green.min()


def test_a_map_has_north_at_the_top() -> None:
    values = np.linspace(0, 1000, 30, dtype=np.float32).reshape(1, 30, 1, 1) * np.ones((1, 1, 60, 1), np.float32)
    globe = (np.linspace(-87, 87, 30), np.arange(60) * 6.0)
    south_first = _array(values, modality="climate", axes=globe)
    north_first = replace(south_first, values=values[:, ::-1], axes=(globe[0][::-1], globe[1]))
    assert np.array_equal(_pixels(render(south_first, south_first, ".png")), _pixels(render(north_first, north_first, ".png")))


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (1, 9000, 2), (1, 1, 1, 1), (3, 7, 400, 2), (1, 4, 4, 4), (2, 3, 9, 1, 1)],
    ids=str,
)
def test_any_shape_is_drawn(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    original = _array(values)
    assert len(np.unique(_pixels(render(original, replace(original, values=255 - values), ".png")))) > 2


@pytest.mark.parametrize("length", [1, 100_000])
def test_sound_of_any_length_is_drawn(length: int) -> None:
    values = np.random.default_rng(2).integers(-999, 999, (1, length, 2)).astype(np.int16)
    sound = Signal(values, "audio", "wav", Scale(-32768, 1, 65536), 65535.0, AudioMetadata("PCM_16", 8000).pack())
    assert _pixels(render(sound, replace(sound, values=np.zeros_like(values)), ".png")).std() > 1


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_missing_samples_are_left_out(share: float) -> None:
    generator = np.random.default_rng(3)
    globe = (np.arange(12.0), np.arange(16.0))
    missing = generator.random((1, 12, 16)) < share
    original = _array(generator.random((1, 12, 16, 1), dtype=np.float32), missing=missing, modality="climate", axes=globe)
    # What stands in for a missing sample is not drawn, whatever it is.
    filled = replace(original, values=np.where(missing[..., None], np.float32(1e6), original.values))
    assert np.array_equal(_pixels(render(original, original, ".png")), _pixels(render(filled, filled, ".png")))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".SVG", b"<?xml"), (".pdf", b"%PDF")], ids=["png", "svg", "pdf"])
def test_the_suffix_decides_the_format(tmp_path: Path, suffix: str, magic: bytes) -> None:
    original = _array(np.zeros((1, 4, 4, 1), np.uint8))
    target = tmp_path / f"preview{suffix}"
    draw(original, original, target)
    assert target.read_bytes().startswith(magic)


def test_an_unknown_suffix_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot draw .*preview\.gif: the suffix decides the format, one of \.png, \.svg, \.pdf"):
        check_preview(tmp_path / "preview.gif")


def test_a_missing_matplotlib_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"--preview needs Matplotlib: pip install 'compresskit\[plot\]'"):
        check_preview(Path("preview.png"))


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    original = _array(np.zeros((1, 4, 4, 1), np.uint8))
    target = tmp_path / "preview.png"
    target.write_bytes(b"kept")
    with pytest.raises(UsageError, match="exists: use --force"):
        draw(original, original, target)
    assert target.read_bytes() == b"kept"
    draw(original, original, target, force=True)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_an_unwritable_target_is_an_output_error(tmp_path: Path) -> None:
    original = _array(np.zeros((1, 4, 4, 1), np.uint8))
    with pytest.raises(OutputError, match="there is no folder"):
        draw(original, original, tmp_path / "nowhere" / "preview.png")


def test_neither_pyplot_nor_matplotlib_is_touched_before_it_is_needed() -> None:
    program = (
        "import sys, numpy as np; from compresskit.codec import preview; from compresskit.codec.signal import Scale, Signal\n"
        "assert 'matplotlib' not in sys.modules\n"
        "signal = Signal(np.zeros((1, 4, 4, 1), np.uint8), 'array', 'npy', Scale(0, 1, 256), 255.0)\n"
        "preview.render(signal, signal, '.png')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
