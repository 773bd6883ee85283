"""The shipped signals are what their script makes, small, and of the kinds that a reader finds in them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np
import pytest

from compresskit.codec.modalities import read, write
from compresskit.codec.signal import Signal

FOLDER = Path(__file__).parents[1] / "sample_data"
EXPECTED = {  # modality, format, dtype, (frames, *spatial, channels)
    "phantom.nii.gz": ("volume", "nii.gz", np.int16, (1, 64, 76, 64, 1)),
    "picture.png": ("image", "png", np.uint8, (1, 192, 256, 3)),
    "tone.wav": ("audio", "wav", np.int16, (1, 16_000, 1)),
    "temperature.npz": ("climate", "npz", np.float32, (8, 46, 90, 1)),
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_signals", FOLDER / "make_signals.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _signal(name: str) -> Signal:
    return read((FOLDER / name).read_bytes(), name)


def test_the_script_makes_these_signals(script: ModuleType) -> None:
    assert set(script.SIGNALS) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_reader_finds_the_kind_by_content(name: str) -> None:
    signal = _signal(name)
    assert (signal.modality, signal.format, signal.values.dtype, signal.values.shape) == EXPECTED[name]
    assert signal.missing is None


@pytest.mark.parametrize("name", EXPECTED)
def test_the_script_makes_the_same_signal_again(script: ModuleType, name: str) -> None:
    # Signals are compared, not files: how deflate packs them depends on the library's version.
    made, shipped = read(script.SIGNALS[name](), name), _signal(name)
    assert np.array_equal(made.values, shipped.values)
    assert made.metadata == shipped.metadata


@pytest.mark.parametrize("name", EXPECTED)
def test_the_signal_restores_its_file(name: str) -> None:
    signal = _signal(name)
    again = read(write(signal), name)
    assert np.array_equal(again.values, signal.values)
    assert again.metadata == signal.metadata


def test_the_scan_tells_its_place_and_unit() -> None:
    image = nibabel.load(FOLDER / "phantom.nii.gz")
    assert (image.dataobj.slope, image.dataobj.inter) == (0.25, 8.0)
    assert np.allclose(image.affine[:3, :3], 3 * np.eye(3))
    assert np.allclose(image.affine @ [31.5, 37.5, 31.5, 1], [0, 0, 0, 1])  # its centre is the origin


def test_the_temperatures_are_the_earths_and_move() -> None:
    values = _signal("temperature.npz").values
    assert values.min() > 180
    assert values.max() < 330
    assert np.abs(np.diff(values, axis=0)).mean() > 0.5


def test_the_noise_is_the_same_everywhere(script: ModuleType) -> None:
    # The first output of SplitMix64 from 0 is 0xE220A8397B1DCDAF.
    assert script.noise((1,), 0).item() == (0xE220A8397B1DCDAF >> 11) * 2.0**-52 - 1


def test_together_they_are_small() -> None:
    assert sum((FOLDER / name).stat().st_size for name in EXPECTED) < 700_000
