"""What `prune` and `metaprune` are both told: how much of the model is to stay, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from compresskit.errors import UsageError
from compresskit.pruning.config import Quantity, Target, parse_pattern, parse_target

from .options import TARGET, option


@dataclass(frozen=True)
class TargetOptions:
    """What is to be reached."""

    flops: Annotated[str | None, option(TARGET, "Keep this much of the multiply-accumulates: 0.5, or 30M.", "--flops", metavar="T")] = None
    params: Annotated[str | None, option(TARGET, "Keep this much of the parameters, likewise.", "--params", metavar="T")] = None
    size: Annotated[str | None, option(TARGET, "Keep this much of the bytes of the weights: 0.5, 1.5MB.", "--size", metavar="T")] = None
    latency: Annotated[str | None, option(TARGET, "Keep this much of the latency in ONNX Runtime: 0.6, or 5ms.", "--latency", metavar="T")] = None
    sparsity: Annotated[
        float | None, option(TARGET, "Set this fraction of the weights to zero in place of cutting channels.", "--sparsity", metavar="S")
    ] = None
    pattern: Annotated[
        str | None, option(TARGET, "Zero weights in place of cutting channels: unstructured, or N of every M stay (2:4).", "--pattern", metavar="P")
    ] = None
    max_drop: Annotated[
        float | None, option(TARGET, "Fail (exit 5) if the test accuracy falls by more than this: 0.01.", "--max-drop", metavar="X", min=0, max=1)
    ] = None


def asked_target(options: TargetOptions) -> Target | None:
    """What is to stay; None where nothing is said of that.

    Raises:
        UsageError: a target is not of its form, or there are two.
    """
    asked: dict[Quantity, str | None] = {"flops": options.flops, "params": options.params, "size": options.size, "latency": options.latency}
    targets = [parse_target(quantity, text) for quantity, text in asked.items() if text is not None]
    if len(targets) > 1:
        raise UsageError(f"--{targets[0].quantity} and --{targets[1].quantity} contradict each other: give one target")
    return targets[0] if targets else None


def asked_sparsity(options: TargetOptions) -> float | None:
    """What is to become zero: as asked, or what the pattern alone says, half of the weights for 2:4.

    Raises:
        UsageError: the pattern is none, or does not say.
    """
    if options.pattern is None or options.sparsity is not None:
        return options.sparsity
    if (pattern := parse_pattern(options.pattern)) is not None:
        return 1 - pattern[0] / pattern[1]
    if options.params is None:
        raise UsageError("--pattern unstructured needs --sparsity or --params: say what goes, or stays")
    return None


def asked_multiple(text: str | None) -> int | None:
    """The multiple of --round-to: None where it is not given, 0 for auto.

    Raises:
        UsageError: it is neither a positive whole number nor auto.
    """
    if text is None:
        return None
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--round-to {text!r}: expected a positive whole number, or auto")
    return int(text)
