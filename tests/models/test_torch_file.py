"""What a PyTorch file names is found without running it, and nothing in it is larger than the file."""

from __future__ import annotations

import copyreg
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from compresskit.errors import InputError, UntrustedError
from compresskit.models import torch_file
from compresskit.models.torch_file import check_extent, check_stored, foreign_classes, load_tensors, open_zip

STATE = {"w": torch.arange(4.0)}


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def archived(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return stream.getvalue()


def rewritten(data: bytes, change: Callable[[str, bytes], bytes | None]) -> bytes:
    """An archive with other members: those that `change` gives."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, change(name, archive.read(name))) for name in archive.namelist()]
    return archived(*((name, content) for name, content in members if content is not None))


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_come_back_whatever_the_protocol(protocol: int, legacy: bool) -> None:
    data = saved({"state": OrderedDict(STATE), "epoch": 3}, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    loaded = load_tensors(data)
    assert torch.equal(loaded["state"]["w"], STATE["w"])
    assert loaded["epoch"] == 3


@pytest.mark.parametrize(
    ("opcodes", "names"),
    [
        (b"ccollections\nOrderedDict\n)R.", []),
        (b"cos\nsystem\n.", ["os system"]),
        (b"(ios\nsystem\n.", ["os system"]),
        (b"\x8c\x02os\x8c\x06system\x93.", ["os system"]),
        (b"\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", ["os system"]),
        (b"X\x02\0\0\0osX\x06\0\0\0system\x93.", ["os system"]),
        (b"\x8c\x06systemq\x00\x8c\x02osh\x00\x93.", ["an unnamed class"]),
        (b"\x8c\x06system\x93.", ["an unnamed class"]),
        (b"\x8c\x06systemN\x8c\x02os\x93.", ["an unnamed class"]),
        (b"cos\nsystem\ncos\npopen\ncos\nsystem\n.", ["os system", "os popen"]),
    ],
    ids=["plain", "global", "instance", "stack", "memoized", "long text", "from the memo", "one text", "text before", "each once"],
)
def test_classes_are_named_in_order_and_once(opcodes: bytes, names: list[str]) -> None:
    data = b"\x80\x04" + opcodes
    assert foreign_classes(data) == names
    assert foreign_classes(archived(("a/data.pkl", data))) == names


def test_a_registered_extension_is_a_class() -> None:
    copyreg.add_extension("os", "getcwd", 77)
    try:
        assert foreign_classes(b"\x80\x02\x82\x4d.") == ["a registered extension"]
    finally:
        copyreg.remove_extension("os", "getcwd", 77)


def test_every_pickle_of_a_legacy_file_is_read() -> None:
    data = saved(STATE, _use_new_zipfile_serialization=False)
    assert foreign_classes(data) == []
    stream = io.BytesIO(data)
    for _ in range(3):
        pickle.load(stream)  # noqa: S301 (our own: magic, protocol, system)
    at = stream.tell()
    assert foreign_classes(data[:at] + b"\x80\x02cos\nsystem\n." + data[at:]) == ["os system"]
    with pytest.raises(UntrustedError, match=r"calls os\.system: .*--trust"):
        load_tensors(data[:at] + b"\x80\x02cos\nsystem\n." + data[at:])


@pytest.mark.parametrize("cut", [0, 1, 5, 20])
def test_a_truncated_pickle_is_damaged(cut: int) -> None:
    with pytest.raises(InputError, match="the pickle is damaged or truncated"):
        foreign_classes(pickle.dumps(list(range(20)))[:cut])


def test_the_limit_on_opcodes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\x80\x02" + b"N0" * 10 + b"N."
    monkeypatch.setattr(torch_file, "_OPCODE_LIMIT", 24)
    assert foreign_classes(data) == []
    monkeypatch.setattr(torch_file, "_OPCODE_LIMIT", 23)
    with pytest.raises(InputError, match="has 23 opcodes or more"):
        foreign_classes(data)


def test_the_limit_on_the_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archived(("a/data.pkl", b"\x80\x02" + b"N0" * 10 + b"N."))
    monkeypatch.setattr(torch_file, "_PICKLE_LIMIT", 24)
    assert foreign_classes(data) == []
    monkeypatch.setattr(torch_file, "_PICKLE_LIMIT", 23)
    with pytest.raises(InputError, match=r"the pickle 'a/data\.pkl' has 24 bytes: more than 23 are not read"):
        foreign_classes(data)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a/data.pkl", b"N."), ("b/data.pkl", b"N.")], "has 2 pickles"),
        ([("a/data", b"N.")], "has 0 pickles"),
        ([("data.pkl/a", b"N.")], "has 0 pickles"),
    ],
    ids=["two", "none", "a folder"],
)
def test_there_is_one_pickle(members: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(InputError, match=said):
        foreign_classes(archived(*members))
    assert foreign_classes(archived(("data.pkl", b"N."))) == []


def test_members_are_stored_plainly_and_lie_apart() -> None:
    for data in (archived(("a/data.pkl", bytes(99)), compression=zipfile.ZIP_DEFLATED), _encrypted(archived(("a/data.pkl", b"N.")))):
        with pytest.raises(InputError, match=r"'a/data\.pkl' is compressed or encrypted"):
            foreign_classes(data)
    data = archived(("a", bytes(60)), ("b", bytes(40)))
    check_stored(open_zip(data), 100)
    with pytest.raises(InputError, match="the zip archive of 99 bytes declares 100 bytes"):
        check_stored(open_zip(data), 99)


def _encrypted(data: bytes) -> bytes:
    """The flag set in the directory, which is where it is looked for first."""
    at = data.index(b"PK\x01\x02") + 8
    return data[:at] + bytes([data[at] | 1]) + data[at + 1 :]


@pytest.mark.parametrize("lost", [b"PK\x01\x02", b"PK\x05\x06"])
def test_a_directory_that_is_damaged(lost: bytes) -> None:
    with pytest.raises(InputError, match="the zip archive is damaged"):
        open_zip(saved(STATE).replace(lost, b"PK\0\0"))


def test_a_checksum_that_does_not_match() -> None:
    data = archived(("a/data.pkl", b"\x80\x02(lp0\n."))
    with pytest.raises(InputError, match="the zip archive is damaged"):
        foreign_classes(data.replace(b"(lp0", b"(lp1"))


def test_what_torch_trips_over_is_one_line() -> None:
    missing = rewritten(saved(STATE), lambda name, data: None if name.endswith("data/0") else data)
    with pytest.raises(InputError, match="the PyTorch file is damaged: ") as caught:
        load_tensors(missing)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="its pickle has parts that no file of tensors has"):
        load_tensors(saved(STATE, pickle_protocol=4))  # which PyTorch writes on request, and does not read without trust


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: [x], lambda x: (x,), lambda x: {"a": {"b": [x]}}], ids=["alone", "list", "tuple", "dicts"])
def test_a_small_file_stands_for_four_times_its_size_and_some(wrap: Callable[[torch.Tensor], Any]) -> None:
    most = 4 * 1000 + (1 << 26)
    check_extent(wrap(torch.zeros(1, dtype=torch.uint8).expand(most)), 1000)
    check_extent([wrap(torch.zeros(1, dtype=torch.int16).expand(most // 4)), wrap(torch.zeros(most // 4, dtype=torch.int16))], 1000)
    for over in (torch.zeros(1, dtype=torch.uint8).expand(most + 1), torch.zeros(1, dtype=torch.int16).expand(most // 2 + 1)):
        with pytest.raises(InputError, match="far larger than the 1000 bytes of the file"):
            check_extent(wrap(over), 1000)


def test_a_file_of_one_number_repeated_is_not_loaded() -> None:
    with pytest.raises(InputError, match="far larger than"):
        load_tensors(saved({"w": torch.zeros(1).expand(1 << 26)}))


def test_a_list_that_holds_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InputError, match="far larger"):
        check_extent(endless, 1000)
    monkeypatch.setattr(torch_file, "_OPCODE_LIMIT", 5)
    check_extent([0] * 4, 1000)
    with pytest.raises(InputError, match="far larger"):
        check_extent([0] * 5, 1000)
