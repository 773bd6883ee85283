"""PyTorch's own files, read without running them: which classes their pickles name, and their tensors by weights_only loading.

zip (since 1.6)      <name>/data.pkl: one pickle                  <name>/data/0, 1, ...: tensors, never compressed
legacy (0.1 to 1.5)  magic, protocol, system: three pickles       the object's pickle, then keys, then tensors
"""

from __future__ import annotations

import io
import itertools
import pickle
import pickletools
import warnings
import zipfile
from typing import Any, BinaryIO

import torch

from compresskit.errors import InputError, UntrustedError
from compresskit.wording import first_line

ZIP_MAGIC = b"PK\x03\x04"
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the integer that the first pickle of a legacy file holds
_PICKLE_LIMIT = 1 << 26
_OPCODE_LIMIT = 1 << 20
_SLACK = 1 << 26

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Char", "Short", "Int", "Long", "Byte", "Bool")
_TENSOR_PARTS = frozenset(
    (
        "collections OrderedDict",
        "torch Size",
        "torch device",
        "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor",
        "torch._utils _rebuild_tensor_v2",
        *(f"torch {kind}Storage" for kind in _STORAGES),
        *(f"torch {kind}" for kind in ("float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")),
    )
)
_PUSHES_TEXT = frozenset(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"))


def open_zip(data: bytes) -> zipfile.ZipFile:
    """`data` as an archive of which nothing has been unpacked.

    Raises:
        InputError: it is no zip archive, or its directory is damaged.
    """
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # zipfile lets struct, codec and seek errors of damaged directories through
        raise InputError(f"the zip archive is damaged or truncated ({first_line(error)})") from error


def check_stored(archive: zipfile.ZipFile, size: int) -> None:
    """Make sure that the members of an archive of `size` bytes are no larger than it holds.

    Raises:
        InputError: it has compressed or encrypted members (where PyTorch stores tensors it has none), or overlapping ones.
    """
    members = archive.infolist()
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise InputError(f"the zip member {member.filename!r} is compressed or encrypted, as PyTorch leaves none: store it plainly")
    declared = sum(member.file_size for member in members)
    if declared > size:
        raise InputError(f"the zip archive of {size} bytes declares {declared} bytes: it is damaged, or made to exhaust memory")


def foreign_classes(data: bytes) -> list[str]:
    """The classes and functions that the object in a PyTorch file names beyond tensors and plain containers, in order, once each.

    Nothing is imported or called: the opcodes are read one by one.

    Raises:
        InputError: it is no pickle, damaged, or over the limit of opcodes.
    """
    return [name for name in _globals(data) if name not in _TENSOR_PARTS]


def load_tensors(data: bytes) -> Any:
    """The object in a PyTorch file: tensors in dicts, lists and tuples, numbers and text.

    Raises:
        UntrustedError: it names other classes, so that loading it would run their code.
        InputError: it is damaged, or its tensors are larger than the file.
    """
    foreign = foreign_classes(data)
    if foreign:
        raise UntrustedError(f"a pickle that calls {foreign[0].replace(' ', '.')}: loading it runs its code; --trust if you know where it comes from")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # its message advises to load the file unsafely
        raise InputError("the PyTorch file is damaged: its pickle has parts that no file of tensors has") from error
    except Exception as error:  # whatever PyTorch's readers trip over in a damaged file
        raise InputError(f"the PyTorch file is damaged: {first_line(error)}") from error
    check_extent(loaded, len(data))
    return loaded


def check_extent(loaded: Any, size: int) -> None:
    """Refuse tensors that are views of one number repeated: a small file may not stand for large tensors.

    Raises:
        InputError: the tensors take several times `size` bytes when written out, or containers hold themselves.
    """
    allowed = 4 * size + _SLACK
    stack, steps = [loaded], 0
    while stack:
        item = stack.pop()
        steps += 1
        if isinstance(item, torch.Tensor):
            allowed -= item.numel() * item.element_size()
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple | set):
            stack.extend(item)
        if allowed < 0 or steps > _OPCODE_LIMIT:
            raise InputError(f"the tensors are far larger than the {size} bytes of the file: it is damaged, or made to exhaust memory")


def _globals(data: bytes) -> list[str]:
    if data.startswith(ZIP_MAGIC):
        return _scan(io.BytesIO(_zip_pickle(data)))
    stream = io.BytesIO(data)
    pickles = 4 if LEGACY_MAGIC in data[:32] else 1
    return list(dict.fromkeys(name for _ in range(pickles) for name in _scan(stream)))


def _zip_pickle(data: bytes) -> bytes:
    with open_zip(data) as archive:
        check_stored(archive, len(data))
        names = [name for name in archive.namelist() if name.split("/", 1)[-1] == "data.pkl"]
        if len(names) != 1:
            raise InputError(f"the zip archive has {len(names)} pickles named data.pkl where PyTorch writes one")
        size = archive.getinfo(names[0]).file_size
        if size > _PICKLE_LIMIT:
            raise InputError(f"the pickle {names[0]!r} has {size} bytes: more than {_PICKLE_LIMIT} are not read")
        try:
            return archive.read(names[0])
        except Exception as error:  # as in open_zip
            raise InputError(f"the zip archive is damaged ({first_line(error)})") from error


def _scan(stream: BinaryIO) -> list[str]:
    """The globals of the pickle that begins here, in order, once each.

    STACK_GLOBAL takes its two names from the stack: they count where they were pushed just before it. Otherwise (they may come
    from the memo) the global has no name here, which makes it foreign.
    """
    found: dict[str, None] = {}
    pushed: list[str] = []
    count = 0
    try:
        for opcode, argument, _ in itertools.islice(pickletools.genops(stream), _OPCODE_LIMIT):
            count += 1
            if opcode.name in ("GLOBAL", "INST"):
                found[str(argument)] = None
            elif opcode.name == "STACK_GLOBAL":
                found[" ".join(pushed[-2:]) if len(pushed) >= 2 else "an unnamed class"] = None
            elif opcode.name.startswith("EXT"):
                found["a registered extension"] = None
            if opcode.name in _PUSHES_TEXT:
                pushed.append(str(argument))
            elif opcode.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
                pushed.clear()
    except Exception as error:  # whatever the bytes make int(), decode() and the checks of pickletools raise
        raise InputError(f"the pickle is damaged or truncated ({first_line(error)})") from error
    if count == _OPCODE_LIMIT:
        raise InputError(f"the pickle has {count} opcodes or more, which are not read")
    return list(found)
