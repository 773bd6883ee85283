"""What a model file is, by its content. Its name is never looked at: suffixes are wrong, missing, or lies."""

from __future__ import annotations

import enum
import itertools
import pickletools

from compresskit.errors import InputError
from compresskit.models.checkpoint import is_checkpoint
from compresskit.models.torch_file import LEGACY_MAGIC, ZIP_MAGIC, foreign_classes, open_zip
from compresskit.wording import first_line

EXPECTED = "expected .onnx, .safetensors, a PyTorch state_dict or a compresskit checkpoint"


class Kind(enum.Enum):
    """The kinds of model file. The value says it to users."""

    ONNX = "an ONNX model"
    SAFETENSORS = "a safetensors file"
    CHECKPOINT = "a compresskit checkpoint"
    TENSORS = "a PyTorch file of tensors"
    PICKLED = "a PyTorch file that pickles objects"
    RAW_PICKLE = "a Python pickle"
    TORCHSCRIPT = "a TorchScript archive"
    PT2 = "a torch.export archive (.pt2)"

    @property
    def runs_code(self) -> bool:
        """Whether loading such a file can run whatever its author likes."""
        return self in (Kind.PICKLED, Kind.RAW_PICKLE, Kind.TORCHSCRIPT, Kind.PT2)


# Files that are often where a model should be, by their first bytes.
_OTHERS = (
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ", "an xz archive: unpack it"),
    (b"(\xb5/\xfd", "a zstd archive: unpack it"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x89HDF", "an HDF5 file, perhaps of Keras: export it to .onnx"),
    (b"\x93NUMPY", "a NumPy array: that is data, for --data"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (b"<", "a web page or XML, perhaps of a failed download"),
    (b"{", "JSON text"),
)

_VARINT, _BYTES = 0, 2
_MODEL_PROTO = {**dict.fromkeys((1, 5), _VARINT), **dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), _BYTES)}  # field number: wire type
_GRAPH = 7
_ENOUGH = 10_000  # opcodes: no other kind of file reads as a pickle for that long


def sniff(data: bytes) -> Kind:
    """The kind of a model file.

    Nothing in it is run, imported or unpacked.

    Raises:
        InputError: it is empty, damaged, or no model file that we read; the message says what it seems to be.
    """
    if not data:
        raise InputError("the file is empty")
    if is_checkpoint(data):
        return Kind.CHECKPOINT
    if data.startswith(ZIP_MAGIC):
        return _sniff_zip(data)
    if data[:32].find(LEGACY_MAGIC) in (0, 2):
        return Kind.PICKLED if foreign_classes(data) else Kind.TENSORS
    if _is_safetensors(data):
        return Kind.SAFETENSORS
    for magic, description in _OTHERS:
        if data.startswith(magic):
            raise InputError(f"this is {description}; {EXPECTED}")
    if _is_onnx(data):
        return Kind.ONNX
    if _is_pickle(data):
        return Kind.RAW_PICKLE
    raise InputError(f"the content is of no known kind, or damaged; {EXPECTED}")


def _sniff_zip(data: bytes) -> Kind:
    with open_zip(data) as archive:
        names = archive.namelist()
    parts = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
        return Kind.TORCHSCRIPT
    if "archive_format" in parts or "serialized_exported_program.json" in parts or any(part.startswith("models/") for part in parts):
        return Kind.PT2
    if "data.pkl" in parts:
        return Kind.PICKLED if foreign_classes(data) else Kind.TENSORS
    if names and all(name.endswith(".npy") for name in names):
        raise InputError(f"this is an .npz archive of arrays: that is data, for --data; {EXPECTED}")
    raise InputError(f"this is a zip archive, but none that PyTorch writes; {EXPECTED}")


def _is_safetensors(data: bytes) -> bool:
    return len(data) > 9 and int.from_bytes(data[:8], "little") < 1 << 32 and data[8:9] == b"{"


def _is_onnx(data: bytes) -> bool:
    """Whether the outermost level reads as a ModelProto with a graph; a file that merely lost its end counts."""
    at, seen = 0, set()
    while at < len(data):
        key, at = _varint(data, at)
        field, wire = key >> 3, key & 7
        if _MODEL_PROTO.get(field) != wire:
            return False
        seen.add(field)
        value, at = _varint(data, at)
        if wire == _BYTES:
            at += value
    return _GRAPH in seen


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at] if at < len(data) else 0
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            break
    return value, at


def _is_pickle(data: bytes) -> bool:
    """Whether the opcodes of a pickle, more than a few, run from the first byte to a STOP."""
    try:
        return sum(1 for _ in itertools.islice(pickletools.genops(data), _ENOUGH)) > 3
    except Exception as error:  # pickletools raises whatever the bytes make int(), decode() and its own checks raise
        return data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and "not enough data" in first_line(error)
