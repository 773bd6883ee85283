from __future__ import annotations

import contextlib
import io
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.io import netcdf_file

from compresskit.codec.modalities import MODALITIES, read, sniff, write
from compresskit.codec.modalities.climate_axes import pack_axis, unpack_axis
from compresskit.codec.modalities.parts import join_parts, split_parts
from compresskit.codec.signal import Signal
from compresskit.data.limits import Limits
from compresskit.errors import InputError, UsageError

CLIMATE = Path(__file__).parents[3] / "../shared/data/climate"
RNG = np.random.default_rng(0)
LAT, LON = np.linspace(80, -80, 5).astype(np.float32), np.arange(0, 360, 60, np.float32)
TEMPERATURE = RNG.normal(280, 10, (3, 5, 6)).astype(np.float32)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def netcdf3(packed: bool = False, order: tuple[str, ...] = ("time", "lat", "lon"), version: int = 2) -> bytes:
    """Everything that classic files have: attributes of every type, text arrays, an unlimited dimension, bounds, a scalar."""
    values = np.round((TEMPERATURE - 280) * 100).astype(">i2") if packed else TEMPERATURE.astype(">f4")
    values.reshape(-1)[[3, 40]] = -32767 if packed else 1e20
    buffer = io.BytesIO()
    with netcdf_file(buffer, "w", version=version) as file:
        for dimension, size in {"time": None, "lat": 5, "lon": 6, "two": 2, "characters": 4}.items():
            file.createDimension(dimension, size)
        axes = {"time": np.arange(3) * 6.0, "lat": LAT, "lon": LON}
        for axis, numbers in axes.items():
            variable = file.createVariable(axis, numbers.dtype, (axis,))
            variable[:] = numbers
            variable.units = {"time": "hours since 2001-01-01", "lat": "degrees_north", "lon": "degrees_east"}[axis]
        file.createVariable("lat_bnds", ">f8", ("lat", "two"))[:] = np.stack([LAT + 20, LAT - 20], axis=1)
        file.createVariable("height", ">f8", ())[...] = 2.0
        file.createVariable("station", "S1", ("time", "characters"))[:] = np.array([list("abcd")] * 3, "S1")
        grid = file.createVariable("t2m", values.dtype, order)
        grid[:] = np.moveaxis(values, [("time", "lat", "lon").index(axis) for axis in order], [0, 1, 2]) if order[0] == "time" else values
        grid._FillValue = values.reshape(-1)[3]
        grid.long_name = b"temp\xc3\xa9rature"
        grid.valid_range = np.array([-400, 400], np.int16)
        grid.scale_factor = 0.01
        file.history = b"not UTF-8: \xff"
        file.realization = np.int32(1)
        file.flush()
        return buffer.getvalue()


def netcdf4(dtype: str = "<f4") -> bytes:
    """Everything that new files have besides: texts of any length, big integers, a deflated grid with (time, level, lat, lon)."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.dimensions = {"valid_time": None, "level": 2, "latitude": 5, "longitude": 6}
        file.resize_dimension("valid_time", 3)
        for axis, numbers in {"valid_time": np.array([0, 6, 13]), "latitude": LAT.astype(float), "longitude": LON.astype(">f4")}.items():
            file.create_variable(axis, (axis,), numbers.dtype)[...] = numbers
        file.variables["latitude"].attrs["standard_name"] = "latitude"
        file.create_variable("expver", ("valid_time",), h5py.string_dtype())[...] = np.array(["0001", "", "0005"], object)
        file.create_variable("number", (), np.int64)[...] = -7
        values = np.stack([TEMPERATURE, TEMPERATURE + 1], axis=1).astype(dtype)
        names = ("valid_time", "level", "latitude", "longitude")
        file.create_variable("t", names, values.dtype, fillvalue=values.dtype.type(7), compression="gzip")[...] = values
        file.variables["t"].attrs["flags"] = ["a", "b"]
        file.variables["t"].attrs["missing_value"] = values.reshape(-1)[:1]
        file.attrs["Conventions"] = "CF-1.7"
        file.attrs["levels"] = np.array([1.5, np.nan])
    return buffer.getvalue()


def restored(original: bytes, variable: str | None = None) -> tuple[Signal, bytes]:
    signal = read(original, "x", variable=variable)
    axes = MODALITIES["climate"].axes(signal.metadata, signal.values.shape)
    for found, expected in zip(axes, signal.axes, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert np.isfinite(signal.values).all()
    return signal, write(signal)


def assert_same_arrays(restored_file: bytes, original: bytes, left_out: frozenset[str] = frozenset()) -> None:
    with np.load(io.BytesIO(original)) as before, np.load(io.BytesIO(restored_file)) as after:
        assert after.files == [key for key in before.files if key not in left_out]
        for key in after.files:
            assert after[key].dtype == before[key].dtype
            np.testing.assert_array_equal(after[key], before[key])


def assert_identical(restored_file: bytes, original: bytes, left_out: frozenset[str] = frozenset()) -> None:
    engine = "scipy" if original.startswith(b"CDF") else "h5netcdf"
    with (
        xr.open_dataset(io.BytesIO(original), engine=engine, decode_cf=False) as before,
        xr.open_dataset(io.BytesIO(restored_file), engine=engine, decode_cf=False) as after,
    ):
        assert after.identical(before.drop_vars(left_out))
        assert after.encoding["unlimited_dims"] == before.encoding["unlimited_dims"]
        for key, variable in after.variables.items():
            assert variable.dtype == before[key].dtype


@settings(max_examples=60)
@given(st.data())
def test_archives_are_restored(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(["<f4", ">f4", "<f8", "<i2", ">i4", "|u1", "<f2"])))
    leading = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)) if data.draw(st.booleans()) else ()
    rows, columns = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    floats = st.floats(-(2.0**10), 2.0**10, width=16) | st.just(np.nan)
    grid = data.draw(hnp.arrays(dtype, (*leading, rows, columns), elements=floats if dtype.kind == "f" else None))
    lat = data.draw(hnp.arrays(data.draw(st.sampled_from(["<f4", "<f8", "<i8"])), rows, elements=st.integers(-90, 90)))
    lon = data.draw(hnp.arrays(">f4", columns, elements=st.floats(-180, 360, width=32)))
    time = np.array(["2017-01-01", "NaT"], "M8[s]")
    original = npz(t=grid, time=time, lat=lat, lon=lon, names=np.array(["a", "bé"]), flag=np.array(True))
    signal, written = restored(original)
    assert sniff(original, "x") == ("climate", "npz")
    assert signal.values.shape == (int(np.prod(leading, dtype=int)), rows, columns, 1)
    assert_same_arrays(written, original)


@pytest.mark.parametrize("packed", [False, True], ids=["floats", "packed integers"])
@pytest.mark.parametrize("version", [1, 2], ids=["classic", "64-bit offsets"])
def test_classic_netcdf_is_restored(packed: bool, version: int) -> None:
    original = netcdf3(packed, version=version)
    signal, written = restored(original)
    assert signal.values.dtype == (np.int16 if packed else np.float32)
    assert signal.missing is not None
    assert np.flatnonzero(signal.missing).tolist() == [3, 40]
    assert signal.peak < 10000
    assert_identical(written, original)
    assert written[:4] == original[:4]


def test_axes_of_any_order_are_put_in_order() -> None:
    original = netcdf3(order=("time", "lon", "lat"))
    signal, written = restored(original)
    assert signal.values.shape == (3, 5, 6, 1)
    assert [axis.size for axis in signal.axes] == [5, 6]
    assert_identical(written, original)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<i2", ">i2", "<i8", "|u1"], ids=lambda dtype: f"{np.dtype(dtype).name} {dtype[0]}")
def test_netcdf4_is_restored(dtype: str) -> None:
    original = netcdf4(dtype)
    signal, written = restored(original)
    assert signal.values.shape == (6, 5, 6, 1)
    assert signal.missing is not None
    assert_identical(written, original)
    with h5netcdf.File(io.BytesIO(written), "r") as file:
        assert file.variables["t"].compression == "gzip"


@pytest.mark.parametrize(
    ("file", "others", "bound"),
    [
        ("era5_conus_t2m_19950714T12.npz", "", 110),
        ("ncep_air_sig995_mon_ltm.npz", "", 150),
        ("ncep_june_climo_T_levels.npz", "t2m", 350),
        ("mpi_esm_lr_tas_2005.nc", "", 2700),
        ("ncep_air_sig995_mon_ltm.nc", "valid_yr_count", 1100),
    ],
)
def test_real_files_are_restored(file: str, others: str, bound: int) -> None:
    path = CLIMATE / file
    if not path.exists():
        pytest.skip("needs ../shared/data/climate")
    left_out = frozenset(others.split())
    variable = {"t2m": "temperature", "valid_yr_count": "air"}.get(others)
    signal, written = restored(path.read_bytes(), variable)
    (assert_same_arrays if path.suffix == ".npz" else assert_identical)(written, path.read_bytes(), left_out)
    assert len(signal.metadata) <= bound


def test_a_regular_grid_costs_little() -> None:
    lat, lon = np.linspace(90, -90, 721, dtype=np.float32), np.arange(0, 360, 0.25, np.float32)
    original = npz(t2m=np.zeros((4, lat.size, lon.size), np.int8), time=np.arange(4) * 6, lat=lat, lon=lon)
    assert len(read(original, "x").metadata) < 130


@given(st.data())
def test_coordinates_are_restored_to_the_bit(data: st.DataObject) -> None:
    dtype = np.dtype(data.draw(st.sampled_from(["<f4", ">f8", "<f2", "<i4", ">u8", "|i1", "|b1", "<M8[s]", "<i8"])))
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=6))
    values: NDArray = np.frombuffer(data.draw(st.binary(min_size=800, max_size=800)), dtype)[: int(np.prod(shape))].reshape(shape)
    if dtype.kind == "b":
        values = values.view(np.uint8) % 2 == 1
    assert unpack_axis(pack_axis(values), dtype, shape).tobytes() == values.tobytes()


@pytest.mark.parametrize(
    "values",
    [np.linspace(-90, 90, 73), np.arange(0, 360, 0.75, np.float32), np.arange(1890, 1972), np.array([5.0]), np.array([], np.float32)],
    ids=["64 bits", "32 bits", "years", "one", "none"],
)
def test_regular_coordinates_need_two_numbers(values: np.ndarray) -> None:
    packed = pack_axis(values)
    assert packed.differences == b""
    np.testing.assert_array_equal(unpack_axis(packed, values.dtype, values.shape), values)


def test_the_same_samples_make_the_same_file() -> None:
    for original in (npz(t=TEMPERATURE, lat=LAT, lon=LON), netcdf3(), netcdf4()):
        signal = read(original, "x")
        assert write(signal) == write(signal)


def test_a_variable_has_to_be_chosen_where_there_are_several() -> None:
    original = npz(u=TEMPERATURE, v=TEMPERATURE + 1, lat=LAT, lon=LON)
    with pytest.raises(UsageError, match=r"x: holds several variables, u, v: choose one with --var"):
        read(original, "x")
    with pytest.raises(UsageError, match=r"no variable 'w' .* choose from u, v"):
        read(original, "x", variable="w")
    signal, written = restored(original, "v")
    np.testing.assert_array_equal(signal.values[..., 0], TEMPERATURE + 1)
    assert_same_arrays(written, original, frozenset("u"))


@pytest.mark.parametrize("module", ["scipy.io", "h5py", "h5netcdf"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    original = netcdf3() if module == "scipy.io" else netcdf4()
    signal = read(original, "x.nc")
    monkeypatch.setitem(sys.modules, module, None)
    for attempt in (lambda: read(original, "x.nc"), lambda: write(signal)):
        with pytest.raises(UsageError, match=rf"x.nc: netCDF needs the package {module}: pip install 'compresskit\[climate\]'"):
            attempt()


def test_another_container_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be written as npz"):
        write(read(netcdf3(), "x.nc"), "npz")
    with pytest.raises(UsageError, match="cannot be written as nc"):
        write(read(npz(t=TEMPERATURE, lat=LAT, lon=LON), "x.npz"), "nc")


def bomb(shape: tuple[int, ...]) -> bytes:
    """An archive whose grid declares more than it holds."""
    buffer = io.BytesIO(npz(lat=LAT, lon=LON))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("t.npy", header.getvalue() + bytes(100))
    return buffer.getvalue()


def huge_hdf5() -> bytes:
    """A few kilobytes that declare 10**12 samples."""
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.dimensions = {"lat": 10**6, "lon": 10**6}
        for axis in ("lat", "lon"):
            file.create_variable(axis, (axis,), np.float32, chunks=(1000,))
        file.create_variable("t", ("lat", "lon"), np.float32, chunks=(1000, 1000))
    return buffer.getvalue()


def grouped_hdf5() -> bytes:
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.create_group("inner")
    return buffer.getvalue()


def rotated() -> bytes:
    buffer = io.BytesIO()
    with h5netcdf.File(buffer, "w") as file:
        file.dimensions = {"y": 2, "x": 3}
        for name in ("lat", "lon", "t"):
            file.create_variable(name, ("y", "x"), np.float32)[...] = 0
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("original", "message"),
    [
        (b"", "is empty"),
        (b"a text under this name\n" * 9, "no kind"),
        (npz(t=TEMPERATURE), "no kind"),
        (npz(t=TEMPERATURE, lat=np.zeros((5, 6)), lon=LON), "rotated"),
        (npz(t=TEMPERATURE, lat=LAT[:4], lon=LON), "no variable on latitudes and longitudes"),
        (npz(t=TEMPERATURE, lat=LAT * 2, lon=LON), "no degrees"),
        (npz(t=TEMPERATURE, lat=LAT, lon=LON * np.float32(np.nan)), "no degrees"),
        (npz(t=TEMPERATURE * np.float32(np.inf), lat=LAT, lon=LON), "infinite"),
        (npz(t=TEMPERATURE[:0], lat=LAT, lon=LON), "no samples"),
        (npz(t=TEMPERATURE, lat=LAT, lon=LON, z=np.zeros(3, complex)), "complex128"),
        (npz(t=TEMPERATURE, lat=LAT, lon=LON, z=np.zeros(3, np.longdouble)), "cannot be kept"),
        (bomb((10**6, 5, 10**6)), "--max-bytes"),
        (bomb((2, 5, 6)), "truncated"),
        (huge_hdf5(), "--max-bytes"),
        (grouped_hdf5(), "groups"),
        (rotated(), "rotated"),
        (b"CDF\5" + netcdf3()[4:], "version 5"),
        (b"\x89HDF\r\n\x1a\n" + bytes(500), "damaged"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_what_is_no_climate_is_refused_in_one_line(original: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read(original, "x.nc")
    assert str(caught.value).startswith("x.nc")
    assert "\n" not in str(caught.value)


def test_text_is_refused_under_a_format_that_the_user_names() -> None:
    with pytest.raises(InputError, match="is neither netCDF"):
        read(b"a text under this name\n", "x.nc", format="nc")


def test_a_limit_is_named() -> None:
    for original in (npz(t=TEMPERATURE, lat=LAT, lon=LON), netcdf3(), netcdf4()):
        with pytest.raises(InputError, match="--max-bytes"):
            read(original, "x", limits=Limits(max_bytes=100))


@pytest.mark.parametrize("original", [npz(t=TEMPERATURE, lat=LAT, lon=LON), netcdf3(), netcdf4()], ids=["npz", "netCDF-3", "netCDF-4"])
def test_truncations_are_refused(original: bytes) -> None:
    for length in range(0, len(original) - 4, max(1, len(original) // 100)):
        with pytest.raises(InputError) as caught:
            read(original[:length], "x")
        assert "\n" not in str(caught.value)


@settings(max_examples=150)
@given(st.sampled_from([npz(t=TEMPERATURE, lat=LAT, lon=LON), netcdf3(), netcdf4()]), st.data())
def test_damaged_files_are_refused_or_read(original: bytes, data: st.DataObject) -> None:
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError, UsageError):
        assert read(bytes(damaged), "x").values.size


@settings(max_examples=300)
@given(st.sampled_from([npz(t=TEMPERATURE, lat=LAT, lon=LON), netcdf3()]), st.data())
def test_damaged_metadata_is_refused_or_written(original: bytes, data: st.DataObject) -> None:
    signal = read(original, "x")
    holes, text, blobs = split_parts(signal.metadata, 3)
    start = data.draw(st.integers(0, len(text) - 1))
    text = text[:start] + data.draw(st.sampled_from([b"", b"[", b"0", b"-1", b"1e999", b'"', b",", b"99999999999999", b"null"])) + text[start + 1 :]
    damaged = replace(signal, metadata=join_parts(holes, text, blobs))
    with contextlib.suppress(InputError, UsageError):
        assert write(damaged)


def test_metadata_that_declares_too_much_is_refused() -> None:
    signal = read(npz(t=TEMPERATURE, lat=LAT, lon=LON, time=np.arange(3)), "x")
    holes, text, blobs = split_parts(signal.metadata, 3)
    document = json.loads(text)
    document[-1][-1][3] = [10**12]
    with pytest.raises(InputError, match="damaged metadata: coordinates of over"):
        write(replace(signal, metadata=join_parts(holes, json.dumps(document).encode(), blobs)))


def test_metadata_of_other_samples_is_refused() -> None:
    signal = read(npz(t=TEMPERATURE, lat=LAT, lon=LON), "x")
    other = read(npz(t=TEMPERATURE.astype(float), lat=LAT, lon=LON), "x")
    with pytest.raises(InputError, match="is of type float64"):
        write(replace(signal, metadata=other.metadata))
    with pytest.raises(InputError, match="does not fit"):
        MODALITIES["climate"].axes(signal.metadata, (1, 5, 6, 1))
