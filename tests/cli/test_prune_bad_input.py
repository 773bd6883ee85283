"""Bad models, data and places: the exit code, one line on stderr that says what is wrong, and nothing left behind."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compresskit.models.load import load_model
from compresskit.models.onnx_out import export_onnx

Invoke = Callable[..., Any]
SAMPLE = Path(__file__).parents[2] / "sample_data"
MODEL, DATA = str(SAMPLE / "digits_resnet.pt"), str(SAMPLE / "digits.npz")


def refuse(invoke: Invoke, code: int, words: list[str], *arguments: str, **options: Any) -> None:
    """Run `prune`, and expect it to end with `code` and one line that holds all `words`, with the folder as it was."""
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    done = invoke("prune", *arguments, *([] if {"--flops", "--sparsity"} & set(arguments) else ["--flops", "0.5"]), **options)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert done.err.startswith("compresskit: error: ")
    assert all(word in done.err for word in words), done.err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["absent.onnx", "absent.pt", "absent.safetensors", "folder/absent.pth"])
def test_a_missing_model(invoke: Invoke, name: str) -> None:
    refuse(invoke, 3, [name], name, "-o", "a.onnx")


def test_a_folder_is_no_model(invoke: Invoke) -> None:
    Path("folder").mkdir()
    refuse(invoke, 3, ["folder", "is a directory"], "folder", "-o", "a.onnx")


def _contents() -> dict[str, bytes]:
    checkpoint = Path(MODEL).read_bytes()
    exported = export_onnx(load_model(MODEL)).SerializeToString()
    noise = np.random.default_rng(0).bytes(5000)
    return {"empty": b"", "half a checkpoint": checkpoint[: len(checkpoint) // 2], "half an ONNX": exported[: len(exported) // 2], "noise": noise}


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    return _contents()


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".pth", ".safetensors", ".pt2"])
@pytest.mark.parametrize("kind", ["empty", "half a checkpoint", "half an ONNX", "noise"])
def test_damaged_models_under_every_suffix(invoke: Invoke, contents: dict[str, bytes], kind: str, suffix: str) -> None:
    Path(f"m{suffix}").write_bytes(contents[kind])
    refuse(invoke, 3, [f"m{suffix}"], f"m{suffix}", "-o", "a.onnx")
    if contents[kind]:
        refuse(invoke, 3, [], "-", "-o", "a.onnx", stdin=contents[kind])


def test_a_state_dict_that_fits_no_architecture_names_keys_and_shapes(invoke: Invoke) -> None:
    state = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).state_dict()
    torch.save(state, "w.pth")
    refuse(invoke, 2, ["w.pth", "--arch"], "w.pth", "-o", "a.onnx")
    Path("nets.py").write_text("from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))\n")
    refuse(
        invoke,
        3,
        ["w.pth", "nets.py:make", "0.weight is [4, 3], not [5, 3]", "2.weight [2, 5] is missing"],
        "w.pth",
        "--arch",
        "nets.py:make",
        "--input",
        "3",
        "-o",
        "a.onnx",
    )
    refuse(invoke, 3, ["w.pth", "resnet20", "conv1.weight"], "w.pth", "--arch", "resnet20", "-o", "a.onnx")


class Payload:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("pwned"),))


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".safetensors"])
@pytest.mark.parametrize("save", [lambda path: path.write_bytes(pickle.dumps(Payload())), lambda path: torch.save(Payload(), path)])
def test_a_file_that_would_run_code_is_refused_and_does_not(invoke: Invoke, save: Callable[[Path], Any], suffix: str) -> None:
    save(Path(f"m{suffix}"))
    refuse(invoke, 6, [f"m{suffix}", "--trust"], f"m{suffix}", "-o", "a.onnx")
    assert not Path("pwned").exists()


def _digits(**changes: Any) -> dict[str, np.ndarray]:
    with np.load(DATA) as arrays:
        small = {"x": arrays["x_train"][:80], "y": arrays["y_train"][:80]}
    return {name: changes[name](array) if name in changes else array for name, array in small.items()}


BAD_DATA: dict[str, tuple[dict[str, Any], list[str]]] = {
    "another shape": ({"x": lambda x: x[:, :7]}, ["7"]),
    "three channels": ({"x": lambda x: np.repeat(x, 3, axis=3)}, ["3"]),
    "a class too many": ({"y": lambda y: y + 1}, ["10"]),
    "a negative class": ({"y": lambda y: y.astype(np.int64) - 1}, ["-1"]),
    "one class": ({"y": np.zeros_like}, ["class"]),
    "NaN": ({"x": lambda x: np.where(np.arange(80)[:, None, None, None] == 3, np.nan, x.astype(np.float32))}, ["NaN"]),
    "no samples": ({"x": lambda x: x[:0], "y": lambda y: y[:0]}, ["no train samples"]),
    "another number of labels": ({"y": lambda y: y[:40]}, ["80", "40"]),
}


@pytest.mark.parametrize("kind", BAD_DATA)
def test_bad_data(invoke: Invoke, kind: str) -> None:
    changes, words = BAD_DATA[kind]
    np.savez("d.npz", **_digits(**changes))
    refuse(invoke, 3, ["d.npz", *words], MODEL, "--data", "d.npz", "-o", "a.onnx")


@pytest.mark.parametrize(("name", "content"), [("absent.npz", None), ("empty.npz", b""), ("noise.npz", b"\x93noise" * 50), ("d.xyz", b"what?")])
def test_data_that_are_none(invoke: Invoke, name: str, content: bytes | None) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    refuse(invoke, 3, [name], MODEL, "--data", name, "-o", "a.onnx")


def test_pickled_data_are_not_unpickled(invoke: Invoke) -> None:
    np.savez("d.npz", x=np.array([Payload()] * 4, dtype=object), y=np.arange(4), allow_pickle=True)
    refuse(invoke, 3, ["d.npz"], MODEL, "--data", "d.npz", "-o", "a.onnx")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--device", "cuda"], 2, ["cuda", "--device cpu"]),
        (["--device", "tpu"], 2, ["tpu", "auto, cpu, cuda"]),
        (["--max-drop", "0.01"], 2, ["--max-drop needs --data"]),
        (["--criterion", "taylor"], 2, ["taylor", "--data"]),
        (["--flops", "900M"], 2, ["no less than the model has"]),
        (["--flops", "0.5", "--mean", ".5,.5", "--std", ".5,.5", "--data", DATA], 2, ["mean"]),
        (["--flops", "0.5", "--data", DATA, "--std", "0"], 2, ["std"]),
    ],
)
def test_what_only_the_library_can_refuse(invoke: Invoke, arguments: list[str], code: int, words: list[str]) -> None:
    refuse(invoke, code, words, MODEL, *arguments, "-o", "a.onnx")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not measure time for seconds."""
    from functools import partial

    from compresskit.models.latency import compare
    from compresskit.pruning import opened

    monkeypatch.setattr(opened, "compare", partial(compare, seconds=0.01, warmup=1))


@pytest.mark.usefixtures("quick")
def test_a_full_disk(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    refuse(invoke, 3, ["a.onnx", "no space left on device"], MODEL, "-o", "a.onnx", "-q")


@pytest.mark.usefixtures("quick")
def test_a_target_out_of_reach_is_written_and_shown(invoke: Invoke) -> None:
    done = invoke("prune", MODEL, "--flops", "0.01", "--floor", "0.5", "-o", "a.onnx", "-q")
    assert (done.code, done.err.count("\n")) == (4, 1)
    assert "--flops: 0.0100 of the model is out of reach" in done.err
    assert Path("a.onnx").exists()


@pytest.mark.usefixtures("quick")
def test_a_dry_run_writes_no_file_of_any_kind(invoke: Invoke) -> None:
    done = invoke("prune", MODEL, "--flops", "0.5", "-o", "a.onnx", "--report", "r.json", "--plot", "w.svg", "--dry-run")
    assert (done.code, "dry run: a.onnx would be written" in done.err) == (0, True)
    assert "MACs" in done.out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_it_trains(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    from compresskit.training.step import Stepper

    update = Stepper.__call__

    def interrupted(stepper: Stepper, step: int, x: Any, y: Any) -> float:
        if step == 2:
            signal.raise_signal(number)
        return update(stepper, step, x, y)

    monkeypatch.setattr(Stepper, "__call__", interrupted)
    done = invoke("prune", MODEL, "--flops", "0.5", "--data", DATA, "-o", "a.onnx")
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), done.err
    assert list(Path().iterdir()) == []
