"""What a request reads, and so protects."""

from __future__ import annotations

from pathlib import Path

import pytest

from compresskit.errors import InputError
from compresskit.recommend.config import TrainRequest
from compresskit.requests import CompressRequest, parse_location, paths_of

FILES = ("d.npz", "x.npy", "y.npy", "loader.py", "a:b,c.npz", "m.onnx", "t.json")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).touch()
    Path("images").mkdir()


NAMED = [
    ("d.npz", ["d.npz"]),
    ("d.npz:images,labels", ["d.npz"]),
    ("a:b,c.npz", ["a:b,c.npz"]),
    ("a:b,c.npz:x,y", ["a:b,c.npz"]),
    ("x.npy,y.npy", ["x.npy", "y.npy"]),
    ("images", ["images"]),
    ("images/", ["images"]),
    ("images,x.npy", ["images", "x.npy"]),
    ("loader.py", ["loader.py"]),
    ("loader.py:load", ["loader.py"]),
    ("pkg.mod:function", []),
]


@pytest.mark.parametrize(("text", "names"), NAMED)
def test_the_files_of_a_location_are_those_that_are_read(text: str, names: list[str]) -> None:
    assert paths_of(text) == parse_location(text)[0] == tuple(map(Path, names))


@pytest.mark.parametrize(
    ("text", "names"), [("", []), ("no.npz", []), ("no.npz:x,y", []), ("no.py:load", []), ("x.npy,no.npy", ["x.npy"]), ("n" * 5000, []), ("\0", [])]
)
def test_what_is_not_there_has_no_files_and_cannot_be_read(text: str, names: list[str]) -> None:
    assert paths_of(text) == tuple(map(Path, names))
    with pytest.raises(InputError, match=r"no such file or folder$"):
        parse_location(text)


@pytest.mark.parametrize(("text", "names"), NAMED)
def test_a_request_reads_the_files_of_its_data(text: str, names: list[str]) -> None:
    asked = CompressRequest("m.onnx", data=text).files_read("t.json", None)
    assert asked == tuple(map(Path, ("m.onnx", *names, "t.json")))
    assert TrainRequest(".", (text, "y.npy"), "p").files_read() == tuple(map(Path, ("m.onnx", *names, "y.npy")))


def test_the_code_of_a_model_is_read() -> None:
    assert CompressRequest("loader.py:make").files_read() == (Path("loader.py"),)
    assert CompressRequest("resnet8").files_read() == CompressRequest("pkg.mod:make").files_read() == CompressRequest(b"piped").files_read() == ()
