"""Every way in which compresskit can fail, and the exit code that each one ends the process with."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of the `compresskit` command. Signals add 128 + their number (129, 130, 143)."""

    OK = 0
    BUG = 1
    USAGE = 2
    INPUT = 3
    TARGET = 4
    GUARD = 5
    UNTRUSTED = 6
    INTERRUPTED = 130


class CompresskitError(Exception):
    """Base of the family. A message is one line: what is wrong, what was expected, and the way out."""

    code: ClassVar[ExitCode] = ExitCode.BUG


class UsageError(CompresskitError):
    """The options contradict each other, or one has a value it cannot take."""

    code = ExitCode.USAGE


class InputError(CompresskitError):
    """An input is missing, unreadable, corrupt, over a limit or of an unsupported kind."""

    code = ExitCode.INPUT


class OutputError(CompresskitError):
    """An output cannot be written: it exists, its folder is missing or read-only, or the disk is full."""

    code = ExitCode.INPUT


class TargetError(CompresskitError):
    """The target cannot be met; the message names the best that can."""

    code = ExitCode.TARGET


class GuardError(CompresskitError):
    """A quality guard failed: accuracy fell too far, a check found a difference, training diverged."""

    code = ExitCode.GUARD


class UntrustedError(CompresskitError):
    """The file would run code when it is loaded, and `--trust` was not given."""

    code = ExitCode.UNTRUSTED
