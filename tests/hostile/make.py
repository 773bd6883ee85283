"""Makes model files that run code when a careless loader reads them. The code touches a marker file, nothing else.

`code_files(marker)` gives their bytes by name; nothing of it is kept in the repository.
"""

from __future__ import annotations

import builtins
import bz2
import collections
import gzip
import hashlib
import io
import json
import os
import pathlib
import pickle
import pickletools
import struct
import subprocess
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Crafted:
    """One file.

    Attributes:
        data: its bytes.
        untrusted: whether it must be refused as untrusted (a whole file of a kind that runs code), or merely refused.
        live: whether it is known to run its code under `trust`, which proves the payload.
    """

    data: bytes
    untrusted: bool = True
    live: bool = False


@dataclass(frozen=True)
class Call:
    """Pickles as a call: unpickling it calls `function(*arguments)`."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def code_files(marker: pathlib.Path) -> dict[str, Crafted]:
    """Every crafted file by name."""
    touch = f"open({str(marker)!r}, 'w').close()"
    calls = {
        "exec": Call(builtins.exec, (touch,)),
        "eval": Call(builtins.eval, (touch,)),
        "system": Call(os.system, (f"touch {marker}",)),
        "popen": Call(subprocess.check_call, (["touch", str(marker)],)),
        "path": Call(pathlib.Path.touch, (marker,)),
    }
    evil = calls["exec"]
    files = {f"zip {name}": Crafted(_zip(call), live=True) for name, call in calls.items()}
    files |= {f"legacy {name}": Crafted(_legacy(call), live=True) for name, call in calls.items()}
    files |= {f"pickle protocol {number}": Crafted(pickle.dumps([evil, 1, 2], number), live=True) for number in range(6)}
    files |= _torch_files(evil)
    files |= _opcode_files(touch)
    files |= _zip_tricks(evil)
    files |= _exported(touch, evil)
    return files | _other_containers(evil)


def _torch_files(evil: Call) -> dict[str, Crafted]:
    tensors = {"weight": torch.zeros(3), "bias": torch.ones(2)}
    return {
        "zip module": Crafted(_zip(nn.Linear(2, 2))),
        "legacy module": Crafted(_legacy(nn.Linear(2, 2))),
        "zip hidden among tensors": Crafted(_zip({**tensors, "extra": evil}), live=True),
        "zip as a key": Crafted(_zip(collections.OrderedDict([(evil, torch.zeros(1))])), live=True),
        "zip protocol 4": Crafted(_saved(evil, pickle_protocol=4), live=True),
        "zip module attribute": Crafted(_zip(_with_attribute(evil)), live=True),
        "legacy in its protocol number": Crafted(_legacy_parts({1: pickle.dumps(evil, 2)}), live=True),
        "legacy in its system description": Crafted(_legacy_parts({2: pickle.dumps(evil, 2)}), live=True),
        "legacy in its storage keys": Crafted(_legacy_parts({4: pickle.dumps(evil, 2)}), untrusted=False),
    }


def _opcode_files(touch: str) -> dict[str, Crafted]:
    """Pickles whose call is written with rare opcodes, as zip archives and raw."""
    text = touch.encode()
    short = b"\x8c" + bytes([len(text)]) + text if len(text) < 256 else b"X" + struct.pack("<I", len(text)) + text
    programs = {
        "INST": b"(S" + repr(touch).encode() + b"\ni__builtin__\nexec\n.",
        "OBJ": b"(cbuiltins\nexec\n" + short + b"o.",
        "names through the memo": b"\x80\x04\x8c\x04execq\x00\x8c\x08builtinsh\x00\x93" + short + b"\x85R.",
        "names from tuples": b"\x80\x04\x8c\x08builtins\x8c\x04none0\x8c\x04exec\x93" + short + b"\x85R.",
        "after a tensor's name": b"\x80\x04\x8c\x0ccollections.\x8c\x0bOrderedDict00\x8c\x08builtins\x8c\x04exec\x93" + short + b"\x85R.",
        "NEWOBJ": b"\x80\x02cpathlib\nPath\n" + short + b"\x85\x810cbuiltins\nexec\n" + short + b"\x85R.",
        "BUILD": b"\x80\x02ctorch.nn.modules.linear\nIdentity\n)R}X\x01\x00\x00\x00ab0cbuiltins\nexec\n" + short + b"\x85R.",
        "persistent id": b"\x80\x02(X\x06\x00\x00\x00modulecbuiltins\nexec\n" + short + short + b"tQ.",
        "EXT1": b"\x80\x02]\x82\x01" + short + b"\x85Ra.",
    }
    inert = ("BUILD", "persistent id", "EXT1")  # today's unpicklers stop at these
    archives = {name: _zip_members({"archive/data.pkl": program, "archive/version": b"3\n"}) for name, program in programs.items()}
    files = {f"zip {name}": Crafted(archive, live=name not in inert) for name, archive in archives.items()}
    return files | {f"raw {name}": Crafted(program, live=name not in inert) for name, program in programs.items()}


def _zip_tricks(evil: Call) -> dict[str, Crafted]:
    good, bad = pickle.dumps({}, 2), pickle.dumps(evil, 2)
    sealed = _zip(evil)[:-2] + (71).to_bytes(2, "little") + b"sha256:"
    return {
        "two pickles, good first": Crafted(_zip_members({"a/data.pkl": good, "b/data.pkl": bad, "a/version": b"3\n"}), untrusted=False),
        "two pickles, bad first": Crafted(_zip_members({"b/data.pkl": bad, "a/data.pkl": good, "b/version": b"3\n"}), untrusted=False),
        "compressed": Crafted(_zip_members({"a/data.pkl": bad, "a/version": b"3\n"}, zipfile.ZIP_DEFLATED), untrusted=False),
        "without version": Crafted(_zip_members({"a/data.pkl": bad})),
        "at the root": Crafted(_zip_members({"data.pkl": bad, "version": b"3\n"})),
        "sealed as a checkpoint": Crafted(sealed + hashlib.sha256(sealed).hexdigest().encode(), untrusted=False),
        "behind a good archive": Crafted(_zip({"a": torch.zeros(2)}) + _zip(evil)),
        "renamed in one directory": Crafted(_zip(evil).replace(b"archive/data.pkl", b"archive/data_pkl", 1), untrusted=False),
    }


def _exported(touch: str, evil: Call) -> dict[str, Crafted]:
    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.relu() + 1

    batch = torch.export.Dim("batch")
    program = io.BytesIO()
    torch.export.save(torch.export.export(Net(), (torch.zeros(2, 3),), dynamic_shapes=({0: batch},)), program)
    members = _members(program.getvalue())
    model = next(name for name in members if name.endswith("models/model.json"))
    sample = next(name for name in members if name.endswith("sample_inputs/model.pt"))
    weights = next(name for name in members if name.endswith("model_weights_config.json"))
    hooked = json.dumps({"config": {"w": {"path_name": "weight_0", "is_param": True, "use_pickle": True, "tensor_meta": None}}}).encode()
    script = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and its files are still around
        torch.jit.save(torch.jit.script(Net()), script)
    code = _members(script.getvalue())
    call = json.dumps(f"exec({touch!r}) or ")[1:-1].encode()  # sympy evaluates the texts of symbolic shapes
    shape = members[model].replace(b'"expr_str": "', b'"expr_str": "' + call)
    return {
        "pt2": Crafted(program.getvalue()),
        "pt2 sample inputs": Crafted(_zip_members({**members, sample: _zip(evil)}), live=True),
        "pt2 pickled weights": Crafted(
            _zip_members({**members, weights: hooked, weights.replace("model_weights_config.json", "weight_0"): _zip(evil)}), live=True
        ),
        "pt2 shape text": Crafted(_zip_members({**members, model: shape}), live=True),
        "pt2 of old": Crafted(_zip_members({"serialized_exported_program.json": b"{}", "serialized_state_dict.pt": _zip(evil), "version": b"1.0"})),
        "TorchScript": Crafted(script.getvalue()),
        "TorchScript with a pickle": Crafted(_zip_members({**code, "archive/data.pkl": pickle.dumps(evil, 2)})),
        "TorchScript without code": Crafted(_zip_members({name: data for name, data in code.items() if "/code/" not in name})),
    }


def _other_containers(evil: Call) -> dict[str, Crafted]:
    objects = io.BytesIO()
    np.save(objects, np.array([evil], dtype=object), allow_pickle=True)
    archive = io.BytesIO()
    np.savez(archive, w=np.array([evil], dtype=object))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:") as writer:
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            payload = pickle.dumps(evil, 2)
            info.size = len(payload)
            writer.addfile(info, io.BytesIO(payload))
    raw = pickle.dumps(evil, 4)
    header = json.dumps({"__metadata__": {"x": "cbuiltins\nexec\n"}}).encode()
    contents = {
        "npy of objects": objects.getvalue(),
        "npz of objects": archive.getvalue(),
        "legacy tar": tar.getvalue(),
        "gzip pickle": gzip.compress(raw),
        "bzip2 pickle": bz2.compress(raw),
        "Python source": b"import os\nos.abort()\n",
        "pickle behind a safetensors header": len(header).to_bytes(8, "little") + header + raw,
        "package": _zip_members({"a/.data/extern_modules": b"", "a/p.pkl": raw, "a/m.py": b"raise SystemExit"}),
    }
    return {name: Crafted(data, untrusted=False) for name, data in contents.items()}


def _with_attribute(evil: Call) -> nn.Module:
    module = nn.Linear(2, 2)
    module.extra = evil
    return module


def _saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def _zip(value: Any) -> bytes:
    return _saved(value)


def _legacy(value: Any) -> bytes:
    return _saved(value, _use_new_zipfile_serialization=False)


def _legacy_parts(replaced: Mapping[int, bytes]) -> bytes:
    """A legacy file of tensors with some of its five pickles exchanged: magic, protocol, system, object, storage keys."""
    stream = io.BytesIO(_legacy({"weight": torch.zeros(3)}))
    parts = []
    for _ in range(5):
        start = stream.tell()
        collections.deque(pickletools.genops(stream), maxlen=0)  # to the end of this pickle, without running it
        parts.append(stream.getvalue()[start : stream.tell()])
    return b"".join(replaced.get(index, part) for index, part in enumerate(parts)) + stream.read()


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zip_members(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()
