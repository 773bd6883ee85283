"""Files in and out: every kind of data that can be encoded, found by its content, as one `Signal`.

A new kind is one new file that registers itself in `MODALITIES` and is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from compresskit.codec.modalities import array, audio, climate, image, volume  # noqa: F401  imported to register
from compresskit.codec.modalities.modality import MODALITIES, Modality
from compresskit.codec.signal import Signal
from compresskit.data.limits import DEFAULT_LIMITS, Budget, Limits
from compresskit.errors import InputError, UsageError
from compresskit.wording import shown

__all__ = ["MODALITIES", "Modality", "default_output", "format_of_name", "formats", "read", "sniff", "write"]

_ALIASES: Mapping[str, str] = {"jpg": "jpeg", "tif": "tiff", "wave": "wav", "oga": "ogg", "nc4": "nc"}


def formats() -> dict[str, str]:
    """The modality of every format."""
    return {format: name for name, modality in MODALITIES.items() for format in modality.formats}


def format_of_name(name: str) -> str | None:
    """The format that the suffix of a file name stands for, the longest that fits; None for an unknown suffix.

    >>> format_of_name("scan.nii.gz")
    'nii.gz'
    """
    suffixes = [suffix.lower() for suffix in PurePath(name).suffixes]
    for start in range(len(suffixes)):
        suffix = "".join(suffixes[start:])[1:]
        format = _ALIASES.get(suffix, suffix)
        if format in formats():
            return format
    return None


def sniff(data: bytes, name: str) -> tuple[str, str]:
    """The modality and the format of a file, by its content; its name counts only where the content leaves a choice.

    Raises:
        InputError: it is empty, or of no known kind.
    """
    _refuse_empty(data, name)
    for modality, reader in MODALITIES.items():
        format = reader.sniff(data, name)
        if format is not None:
            return modality, format
    raise InputError(f"{shown(name)}: its content is of no kind that can be encoded; known are {', '.join(formats())}")


def read(data: bytes, name: str, *, format: str | None = None, variable: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Signal:
    """Read a file.

    Args:
        data: the whole file.
        name: of the file, without folder; for messages and the signal.
        format: overrides what the content says.
        variable: which one, where a file holds several.
        limits: on what the file may unpack to.

    Raises:
        InputError: empty, damaged, over a limit, of no known kind, or of a kind that cannot be restored.
        UsageError: `format` is unknown, or `variable` is not in the file.
    """
    _refuse_empty(data, name)
    modality, format = sniff(data, name) if format is None else _named(format)
    signal = MODALITIES[modality].read(data, format, name=shown(name), variable=variable, budget=Budget(limits))
    if not signal.values.size:
        raise InputError(f"{shown(name)}: holds no samples (shape {signal.values.shape})")
    return signal


def default_output(signal: Signal) -> str:
    """The format in which `write` restores `signal` unless told otherwise."""
    return MODALITIES[signal.modality].default_output(signal.format)


def write(signal: Signal, format: str | None = None) -> bytes:
    """The file that `signal` was read from, or one of another format with its samples.

    Raises:
        InputError: the signal's metadata is damaged.
        UsageError: `format` is unknown, or cannot hold these samples.
    """
    wanted = default_output(signal) if format is None else _named(format)[1]
    modality = MODALITIES[signal.modality]
    if wanted not in modality.formats:
        raise UsageError(f"{signal.modality} data cannot be written as {wanted}: choose from {', '.join(modality.formats)}")
    return modality.write(signal, wanted)


def _refuse_empty(data: bytes, name: str) -> None:
    if not data:
        raise InputError(f"{shown(name)}: is empty; expected a file to encode")


def _named(format: str) -> tuple[str, str]:
    """Modality and format that the user's word for a format stands for: "jpg", ".JPEG" and "jpeg" are one."""
    word = format.lower().removeprefix(".")
    word = _ALIASES.get(word, word)
    try:
        return formats()[word], word
    except KeyError:
        raise UsageError(f"unknown format {format!r}: choose from {', '.join(formats())}") from None
