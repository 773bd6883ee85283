"""`decode --region` and `decode --scale`, through streams and files, against cutting out of the whole file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import soundfile
import torch
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from compresskit.codec import modalities
from compresskit.codec.base import SYMBOL_BITS, Base, save_base
from compresskit.codec.bitstream import unpack
from compresskit.codec.chunks import unpack_chunk
from compresskit.codec.config import HALF_BITS, DecodeRequest, EncodeConfig, EncodeRequest
from compresskit.codec.coordinates import finer_latitudes, finer_longitudes, sphere
from compresskit.codec.decoder import decode_items
from compresskit.codec.decoding import decode
from compresskit.codec.encoder import item_of
from compresskit.codec.exact import OUTPUT, SHIFTS
from compresskit.codec.latentprior import LatentPrior
from compresskit.codec.opened import open_stream
from compresskit.codec.pipeline import encode
from compresskit.codec.regions import cut_out, parse_region, positions, refined
from compresskit.codec.shelf import named
from compresskit.codec.signal import Signal
from compresskit.codec.siren import init, to_integer
from compresskit.errors import InputError, UsageError

RNG = np.random.default_rng(0)
LATENTS, WIDTH, DEPTH = 4, 8, 2
DIMS = {"image": 2, "globe": 3, "volume": 3, "audio": 1}


@pytest.fixture(scope="session", params=[OUTPUT, SHIFTS])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Writes a base network of random weights for a kind of signal; returns its path."""

    def write(kind: str, channels: int = 1) -> str:
        path = tmp_path_factory.mktemp("bases") / f"{kind}.base.safetensors"
        geometry, axes = ("sphere", 2) if kind == "globe" else ("grid", DIMS[kind])
        network = to_integer(init(DIMS[kind], WIDTH, DEPTH, channels, 30.0, torch.Generator().manual_seed(0)))
        rows = {OUTPUT: channels * (WIDTH + 1), SHIFTS: DEPTH * WIDTH}[request.param]
        mapping, steps = RNG.integers(-(2**10), 2**10, (rows, LATENTS)), {bits: round(2 ** (18 - bits)) for bits in HALF_BITS}
        known = (np.zeros(LATENTS, np.int64), np.full(LATENTS, 2**16, np.int64), steps)
        if request.param == OUTPUT:
            expected: tuple[Any, ...] = (_prior(axes, channels),)
        else:
            tables = {bits: np.full((LATENTS, 1 << bits), 2 ** (16 - bits), np.uint32) for bits in SYMBOL_BITS}
            expected = (None, tables, np.zeros((8**axes * channels, LATENTS), np.float32), np.zeros(LATENTS, np.float32))
        base = Base(kind, geometry, (8,) * axes, 30.0, network, mapping, 14, *known, *expected)
        path.write_bytes(save_base(base))
        return str(path)

    return write


def _prior(axes: int, channels: int) -> LatentPrior:
    """Each patch is expected to be about the mean of those next to it."""
    eye = np.eye(LATENTS, dtype=np.int64)
    maps = {which: np.tile(eye * (4096 // (2 * which.bit_count())), (2 * which.bit_count(), 1)) for which in range(1, 1 << axes)}
    share, near = np.full(LATENTS, 2048), np.full(LATENTS, 1024)
    rest = {bits: np.full((2, LATENTS), round(2 ** (bits + 4))) for bits in HALF_BITS}
    return LatentPrior(maps, np.tril(np.full((LATENTS, LATENTS), 512), -1).T.copy(), share, near, rest, np.zeros((channels + 1, LATENTS), np.int64))


class Files:
    """Encodes one file, and decodes it in several ways."""

    def __init__(self, folder: Path, data: bytes, name: str, **config: Any) -> None:
        self.base, self.stream, self.out = config.get("base"), folder / "s.coinpp", folder / f"out{Path(name).suffix}"
        (folder / name).write_bytes(data)
        self.config = EncodeConfig(steps=1, **config)
        encode(EncodeRequest((str(folder / name),), str(self.stream), self.config, threads=1, force=True))

    def decode(self, region: str | None = None, scale: int = 1) -> bytes:
        self.report = decode(DecodeRequest(str(self.stream), str(self.out), region=region, scale=scale, base=self.base, threads=1, force=True)).report
        return self.out.read_bytes()


def _png(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, shape, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def _pixels(data: bytes) -> NDArray:
    return np.asarray(Image.open(io.BytesIO(data)))


def _npz(**arrays: NDArray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _globe(**more: NDArray) -> bytes:
    latitudes, longitudes = np.linspace(90, -90, 13, dtype=np.float32), np.arange(0, 360, 15, np.float32)
    return _npz(t2m=RNG.normal(280, 9, (2, 13, 24)).astype(np.float32), lat=latitudes, lon=longitudes, time=np.array([3, 9]), **more)


def _load(data: bytes) -> dict[str, NDArray]:
    with np.load(io.BytesIO(data)) as archive:
        return dict(archive)


@pytest.mark.parametrize("guard", [{}, {"lossless": True}, {"max_error": 3.0}], ids=["free", "lossless", "max-error"])
@pytest.mark.parametrize("method", ["coin", "coin++"])
def test_a_region_of_a_picture_is_that_part_of_the_whole(tmp_path: Path, base: Any, method: str, guard: dict[str, Any]) -> None:
    config = {"base": base("image", 3), "patch": 8} if method == "coin++" else {"method": "coin"}
    files = Files(tmp_path, _png((40, 60, 4)), "p.png", **config, **guard)
    whole = _pixels(files.decode())
    np.testing.assert_array_equal(_pixels(files.decode("x=10:50,y=3:20")), whole[3:20, 10:50])
    np.testing.assert_array_equal(_pixels(files.decode("y=39:40")), whole[39:])


def test_a_region_on_a_finer_grid_counts_in_the_samples_that_were_encoded(tmp_path: Path, base: Any) -> None:
    files = Files(tmp_path, _png((20, 30)), "p.png", base=base("image"), patch=8)
    whole = _pixels(files.decode(scale=3))
    assert whole.shape == (60, 90)
    np.testing.assert_array_equal(_pixels(files.decode("x=5:9,y=1:20", scale=3)), whole[3:60, 15:27])
    assert files.report.warnings == ()


def test_a_finer_grid_of_a_guarded_stream_is_warned_of(tmp_path: Path, base: Any) -> None:
    files = Files(tmp_path, _png((20, 30)), "p.png", base=base("image"), lossless=True)
    files.decode()
    assert files.report.warnings == ()
    assert files.report.verified
    files.decode("x=0:5")
    assert files.report.verified
    files.decode(scale=2)
    assert len(files.report.warnings) == 1
    assert "--scale 2" in files.report.warnings[0]


def test_patches_outside_a_region_are_not_reconstructed(tmp_path: Path, base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path, _png((320, 320)), "p.png", base=base("image"), patch=8)
    opened = open_stream(unpack(files.stream.read_bytes()), named(files.base))
    whole = next(decode_items(opened, [0]))
    unpacked = []
    monkeypatch.setattr("compresskit.codec.opened.unpack_chunk", lambda *chunk, **how: unpacked.append(chunk) or unpack_chunk(*chunk, **how))
    parts = positions({"x": (17, 30), "y": (130, 150)}, opened.stream.items[0])
    touched = opened.layouts[0].touched(opened.base, parts)
    assert touched.sum() == 2 * 3
    part = next(decode_items(opened, [0], parts={0: parts}))
    assert len(unpacked) < len(opened.stream.chunks)
    np.testing.assert_array_equal(part.values[:, 128:152, 16:32], whole.values[:, 128:152, 16:32])
    assert not part.values[:, :128].any()


def test_an_archive_of_arrays_keeps_coordinates_over_the_seam(tmp_path: Path, base: Any) -> None:
    files = Files(tmp_path, _globe(note=np.array("kept")), "t2m.npz", base=base("globe"))
    whole, part = _load(files.decode()), _load(files.decode("lat=30:60,lon=-15:45"))
    np.testing.assert_array_equal(part["t2m"], np.roll(whole["t2m"], 1, axis=-1)[:, 2:5, :5])
    np.testing.assert_array_equal(part["lat"], [60, 45, 30])
    np.testing.assert_array_equal(part["lon"], [-15, 0, 15, 30, 45])
    assert part["lon"].dtype == np.float32
    assert part["note"] == whole["note"]
    later = _load(files.decode("t=1:2"))
    np.testing.assert_array_equal(later["t2m"], whole["t2m"][1:])
    np.testing.assert_array_equal(later["time"], [9])


def test_a_finer_globe_wraps_around_and_stops_at_the_poles(tmp_path: Path, base: Any) -> None:
    files = Files(tmp_path, _globe(), "t2m.npz", base=base("globe"))
    fine = _load(files.decode(scale=3))
    assert fine["t2m"].shape == (2, 39, 72)
    np.testing.assert_allclose(fine["lon"], np.arange(-5, 355, 5))
    assert np.abs(fine["lat"]).max() < 90
    assert (np.diff(fine["lat"]) < 0).all()
    whole = _load(files.decode())
    np.testing.assert_array_equal(fine["t2m"][:, 4:-4:3, 1::3], whole["t2m"][:, 1:-1])  # an odd scale has the old centres, too
    part = _load(files.decode("lat=0:10,lon=350:5", scale=3))
    np.testing.assert_allclose(part["lat"], [10, 5, 0], atol=1e-5)
    np.testing.assert_allclose(part["lon"], [-10, -5, 0, 5])
    np.testing.assert_array_equal(part["t2m"], _at(fine, part))


def _at(fine: dict[str, NDArray], part: dict[str, NDArray]) -> NDArray:
    rows = [int(np.argmin(np.abs(fine["lat"] - latitude))) for latitude in part["lat"]]
    columns = [int(np.argmin(np.abs((fine["lon"] - longitude + 180) % 360 - 180))) for longitude in part["lon"]]
    return fine["t2m"][:, rows][..., columns]


@pytest.mark.parametrize("engine", ["h5netcdf", "scipy"])
def test_netcdf_keeps_attributes(tmp_path: Path, base: Any, engine: Any) -> None:
    rows, columns = np.linspace(-90, 90, 13), np.arange(-180.0, 180, 15)
    bounds = np.stack([rows - 7, rows + 7], axis=1)
    dataset = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), RNG.normal(280, 9, (3, 13, 24)).astype("f4"), {"units": "K"}), "lat_bnds": (("lat", "two"), bounds)},
        {"time": ("time", [0.0, 1, 2]), "lat": ("lat", rows, {"units": "degrees_north", "bounds": "lat_bnds"}), "lon": ("lon", columns)},
        {"title": "test"},
    )
    dataset.t2m[:, 4:6, 3] = np.nan
    dataset.to_netcdf(tmp_path / "in.nc", engine=engine)
    files = Files(tmp_path, (tmp_path / "in.nc").read_bytes(), "t2m.nc", base=base("globe"), max_error=0.5)

    def opened(*request: Any) -> xr.Dataset:
        files.decode(*request)
        return xr.load_dataset(files.out, engine=engine, decode_times=False)

    whole, part = opened(), opened("lat=-30:0,lon=150:200,t=1:3")
    assert (part.title, part.t2m.units, part.lat.units) == ("test", "K", "degrees_north")
    np.testing.assert_array_equal(part.lon, [150, 165, 180, 195])
    np.testing.assert_array_equal(part.lat_bnds, whole.lat_bnds.sel(lat=slice(-30, 0)))
    np.testing.assert_array_equal(part.t2m, whole.t2m.sel(lat=slice(-30, 0)).values[1:, :, [22, 23, 0, 1]])
    fine = opened(None, 2)
    assert fine.t2m.shape == (3, 26, 48)
    assert "lat_bnds" not in fine
    assert fine.t2m.units == "K"
    np.testing.assert_array_equal(np.isnan(fine.t2m), np.isnan(whole.t2m.values).repeat(2, axis=1).repeat(2, axis=2))


@pytest.mark.parametrize("version", [1, 2])
def test_voxels_stay_where_they_are_in_space(tmp_path: Path, base: Any, version: int) -> None:
    turn = nib.eulerangles.euler2mat(0.3, 0.2, 0.1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([2.0, 3.0, 4.0]), [-20, 5, 7]
    image = (nib.Nifti1Image if version == 1 else nib.Nifti2Image)(RNG.integers(0, 99, (10, 8, 6, 3), np.int16), affine)
    image.header["descrip"], image.header["qform_code"] = b"kept", 2
    image.header["pixdim"][4] = 1.5
    files = Files(tmp_path, image.to_bytes(), "v.nii", base=base("volume"), patch=4)

    def opened(*request: Any) -> Any:
        return type(image).from_bytes(files.decode(*request))

    whole, part, fine = opened(), opened("x=2:10,y=1:4,z=5:6,t=1:3"), opened(None, 2)
    np.testing.assert_array_equal(part.dataobj, np.asarray(whole.dataobj)[2:, 1:4, 5:6, 1:3])
    for get in ("get_sform", "get_qform"):
        np.testing.assert_allclose(getattr(part, get)() @ [0, 0, 0, 1], getattr(whole, get)() @ [2, 1, 5, 1], atol=1e-4)
        np.testing.assert_allclose(getattr(fine, get)() @ [0.5, 0.5, 0.5, 1], whole.affine @ [0, 0, 0, 1], atol=1e-4)
        np.testing.assert_allclose(getattr(fine, get)() @ [6.5, 4.5, 2.5, 1], whole.affine @ [3, 2, 1, 1], atol=1e-4)
    assert fine.shape == (20, 16, 12, 3)
    np.testing.assert_allclose(fine.header.get_zooms(), [1, 1.5, 2, 1.5], rtol=1e-6)
    assert part.header["toffset"] == 1.5
    assert part.header["descrip"] == fine.header["descrip"] == b"kept"
    changed = [
        name for name in whole.header if not np.array_equal(whole.header[name], part.header[name], equal_nan=whole.header[name].dtype.kind == "f")
    ]
    assert set(changed) <= {"dim", "toffset", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"}


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_sound_is_cut_in_samples_and_refined_in_rate(tmp_path: Path, base: Any, format: str) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, RNG.integers(-999, 999, (1000, 2), np.int16), 8000, format=format)
    files = Files(tmp_path, buffer.getvalue(), f"s.{format}", base=base("audio"), patch=64)
    (whole, _), (part, rate) = (soundfile.read(io.BytesIO(files.decode(region)), dtype="int16") for region in (None, "t=100:300"))
    np.testing.assert_array_equal(part, whole[100:300])
    assert rate == 8000
    fine, rate = soundfile.read(io.BytesIO(files.decode(scale=2)), dtype="int16")
    assert (fine.shape, rate) == ((2000, 2), 16000)


@pytest.fixture
def ensemble(tmp_path: Path, base: Any) -> Files:
    """Fields of two times, three members and one level."""
    rows, columns = 90 - 15.0 * np.arange(13), 15.0 * np.arange(24)
    dims = ("time", "member", "level", "lat", "lon")
    dataset = xr.Dataset(
        {"t2m": (dims, RNG.normal(280, 9, (2, 3, 1, 13, 24)).astype("f4")), "weight": ("member", [0.2, 0.3, 0.5])},
        {"time": [0.0, 6.0], "lat": ("lat", rows, {"units": "degrees_north"}), "lon": ("lon", columns, {"units": "degrees_east"})},
    )
    dataset.to_netcdf(tmp_path / "in.nc", engine="scipy")
    return Files(tmp_path, (tmp_path / "in.nc").read_bytes(), "t2m.nc", base=base("globe"), max_error=0.5)


@pytest.mark.parametrize(
    ("region", "part"),
    [
        ("member=1:3", (slice(None), slice(1, 3))),
        ("time=1:2,lat=-30:30", (slice(1, 2), slice(None), slice(None), slice(4, 9))),
        ("member=0:1,time=0:1,level=0:1,x=2:5", (slice(1), slice(1), slice(1), slice(None), slice(2, 5))),
    ],
)
def test_frames_are_named_as_the_file_names_them(ensemble: Files, region: str, part: tuple[slice, ...]) -> None:
    def opened(*request: Any) -> xr.Dataset:
        ensemble.decode(*request)
        return xr.load_dataset(ensemble.out, engine="scipy", decode_times=False)

    whole, cut = opened(), opened(region)
    xr.testing.assert_equal(cut, whole.isel(dict(zip(whole.t2m.dims, part, strict=False))))


def test_of_several_dimensions_t_names_none(ensemble: Files) -> None:
    for region, message in {
        "t=0:1": "the data have the dimensions time, member: name one of them, as in time=0:1",
        "member=0:4": "no range of samples: member goes from 0 to 3",
        "height=0:1": "climate data has no such axis: give t, y, x, lat, lon, time, member, level",
    }.items():
        with pytest.raises(UsageError, match=message):
            ensemble.decode(region)
    assert not ensemble.out.exists()


def test_an_archive_s_dimensions_are_numbers_and_its_arrays_go_along_those_of_their_length(tmp_path: Path, base: Any) -> None:
    axes = {"lat": 90 - 15.0 * np.arange(13), "lon": 15.0 * np.arange(24)}
    samples = RNG.normal(280, 9, (2, 3, 13, 24)).astype(np.float32)
    files = Files(tmp_path, _npz(t2m=samples, time=np.array([0, 6]), member=np.arange(3), **axes), "t2m.npz", base=base("globe"), max_error=0.5)
    whole, part = _load(files.decode()), _load(files.decode("1=1:3"))
    np.testing.assert_array_equal(part["t2m"], whole["t2m"][:, 1:])
    np.testing.assert_array_equal(part["member"], [1, 2])
    np.testing.assert_array_equal(part["time"], [0, 6])
    with pytest.raises(UsageError, match="name one of them, as in 0=0:1"):
        files.decode("t=0:1")


REFUSED = {
    "out of range": "x=10:61",
    "negative": "x=-1:5",
    "empty": "y=5:5",
    "backwards": "y=9:5",
    "half a sample": "x=0.5:3",
    "no globe": "lat=1:2",
    "no such axis": "z=0:1",
    "no number": "x=1.2.3:4",
    "twice": "x=0:5,x=0:6",
    "no pair": "x",
    "nothing": "",
}


@pytest.mark.parametrize("region", REFUSED.values(), ids=REFUSED)
def test_what_is_no_region_is_refused(tmp_path: Path, base: Any, region: str) -> None:
    files = Files(tmp_path, _png((40, 60)), "p.png", base=base("image"))
    with pytest.raises(UsageError):
        files.decode(region)
    assert not files.out.exists()


@pytest.mark.parametrize("region", ["lat=91:95", "lat=60:30", "lon=1:2", "lat=0:10,y=0:4"])
def test_what_is_not_on_the_globe_is_refused(region: str) -> None:
    signal = modalities.read(_globe(), "t2m.npz")
    with pytest.raises(UsageError):
        positions(parse_region(region), item_of(signal))


def test_a_scale_out_of_all_proportion_is_refused(tmp_path: Path, base: Any) -> None:
    files = Files(tmp_path, _png((40, 60)), "p.png", base=base("image"))
    with pytest.raises(InputError, match="--max-memory"):
        files.decode(scale=9999)
    plain = Files(tmp_path, _png((40, 60)), "p.png", base=base("image"), lossless=True, fallback=True)
    with pytest.raises(UsageError, match="the samples themselves"):
        plain.decode(scale=2)


@given(st.integers(-400, 400), st.integers(0, 360), st.booleans(), st.booleans())
@example(0, 360, False, False)
def test_longitudes_are_those_that_an_angle_holds(low: int, width: int, falling: bool, centred: bool) -> None:
    longitudes = np.arange(0, 360, 5.0) - 180 * centred
    longitudes = longitudes[::-1].copy() if falling else longitudes
    signal = modalities.read(_npz(lat=np.array([0.0, 1]), lon=longitudes, v=np.zeros((2, 72), "f4")), "v.npz")
    expected = {int(longitude) % 360 for longitude in longitudes if (longitude - low) % 360 <= width}
    region = {"lon": (float(low), float(low + width))}
    if not expected:
        with pytest.raises(UsageError):
            positions(region, item_of(signal))
        return
    found = positions(region, item_of(signal))
    cut = cut_out(signal, found)
    assert {int(longitude) % 360 for longitude in cut.axes[1]} == expected
    np.testing.assert_array_equal(cut.axes[1] % 360, longitudes[found[2]] % 360)
    assert (np.diff(cut.axes[1]) == (-5 if falling else 5)).all()
    assert np.abs(cut.axes[1]).max() <= 360


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_arrays_with_holes_are_cut_like_arrays(shape: list[int], data: Any) -> None:
    values = RNG.normal(size=shape)
    bits = np.where(RNG.random(shape) < 0.3, RNG.integers(1, 9, shape), 0)
    values.view(np.int64)[bits > 0] = 0x7FF8000000000000 + bits[bits > 0]  # NaNs that differ
    buffer = io.BytesIO()
    np.save(buffer, values)
    signal = modalities.read(buffer.getvalue(), "a.npy")
    parts = [np.arange(*sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)))) for size in signal.values.shape[:-1]]
    cut = np.load(io.BytesIO(modalities.write(cut_out(signal, tuple(parts)))))
    expected = values[np.ix_(*parts[-len(shape) :])]
    assert cut.tobytes() == expected.tobytes()
    fine = refined(_spread(signal, 2), 2)
    expected = values
    for axis in range(max(len(shape) - 3, 0), len(shape)):
        expected = np.repeat(expected, 2, axis=axis)
    assert np.load(io.BytesIO(modalities.write(fine))).tobytes() == expected.tobytes()


def _spread(signal: Signal, scale: int) -> Signal:
    """As decoding on a finer grid leaves it: samples and holes repeated, everything else as it was."""
    values, missing = signal.values, signal.missing
    for axis in range(1, values.ndim - 1):
        values = np.repeat(values, scale, axis=axis)
        missing = None if missing is None else np.repeat(missing, scale, axis=axis)
    return replace(signal, values=values, missing=missing)


@given(st.integers(2, 40), st.integers(1, 5), st.booleans())
def test_finer_degrees_cut_each_cell(count: int, scale: int, falling: bool) -> None:
    latitudes = np.linspace(-90, 90, count)[:: -1 if falling else 1]
    fine = finer_latitudes(latitudes, scale)
    assert len(fine) == count * scale
    assert (np.diff(fine) * (-1 if falling else 1) > 0).all()
    longitudes = np.arange(count) * (360 / count)
    np.testing.assert_allclose(finer_longitudes(longitudes, scale), (np.arange(count * scale) + 0.5) * 360 / count / scale - 180 / count, atol=1e-9)
    jump = np.where(longitudes > 180, longitudes - 360, longitudes)
    if count > 2:
        np.testing.assert_array_equal(
            sphere(latitudes, np.fmod(finer_longitudes(jump, scale), 360)), sphere(latitudes, np.fmod(finer_longitudes(longitudes, scale), 360))
        )


def test_a_region_of_a_kind_that_cannot_be_cut_is_refused() -> None:
    class Kind(modalities.Modality):
        formats = ()

    signal = modalities.read(_png((2, 2)), "p.png")
    for change in (lambda: Kind().cropped(signal, ()), lambda: Kind().refined(signal, 2)):
        with pytest.raises(UsageError, match="image data"):
            change()
