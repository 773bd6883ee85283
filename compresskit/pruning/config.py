"""What `prune` is asked to do. Free of torch, so that the command line can build it before anything heavy loads."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from compresskit.errors import UsageError
from compresskit.recipes import RECIPES, RecipeName, TrainingSettings

Method = Literal["auto", "classic", "l1l2", "3sp", "prospr", "snip", "grasp", "synflow", "force", "iter-snip", "magnitude", "random"]
# Said again here because the registry loads torch; a test holds the two together.
SALIENCIES = ("3sp", "prospr", "snip", "grasp", "synflow", "force", "iter-snip", "magnitude", "random")
BlockName = Literal["channels", "heads", "head-width", "ffn", "lowrank"]
BLOCK_NAMES: tuple[BlockName, ...] = ("channels", "heads", "head-width", "ffn", "lowrank")  # likewise
Quantity = Literal["flops", "params", "size", "latency"]
FEW_EPOCHS = 2.0  # of training, in which channels that were ranked by reconstruction stay ahead
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9}
MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Target:
    """How much of the model is to stay.

    Attributes:
        quantity: "flops" counts multiply-accumulates (MACs), "params" parameters, "size" bytes of weights, "latency" milliseconds.
        value: a kept fraction in (0, 1), or an absolute amount.
        absolute: says that a value below 1 is an amount: half a millisecond.
    """

    quantity: Quantity
    value: float
    absolute: bool = False

    @property
    def relative(self) -> bool:
        return self.value < 1 and not self.absolute

    def limit(self, whole: float) -> float:
        """The count that may stay of a model that has `whole`.

        Raises:
            UsageError: the model is below an absolute target already.
        """
        limit = self.value * whole if self.relative else self.value
        if limit >= whole:
            unit = "ms" if self.quantity == "latency" else ""
            raise UsageError(f"--{self.quantity} {self.value:g}{unit} asks for no less than the model has ({whole:g}{unit}): choose a smaller value")
        return limit


def parse_target(quantity: Quantity, text: str) -> Target:
    """Read a target: a fraction ("0.5", "50%") or an amount ("30M", "1.5MB", "200k", "5ms").

    Raises:
        UsageError: not a number above 0, a fraction of 1 or more, or a unit that makes no sense.
    """
    if quantity == "latency":
        return _parse_latency(text)
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|[KMG]?B?)\s*", text, flags=re.IGNORECASE)
    expected = f"--{quantity} takes a kept fraction between 0 and 1, or a count such as {'1.5MB' if quantity == 'size' else '30M'}"
    if not match:
        raise UsageError(f"{expected}, not {text!r}")
    number, unit = float(match[1]), match[2].upper()
    if unit == "%":
        number, unit = number / 100, ""
    elif unit.endswith("B") and quantity != "size":
        raise UsageError(f"{expected}, not {text!r} (bytes go with --size)")
    unit = unit.removesuffix("B")
    value = number * UNITS[unit]
    counted = bool(unit) or (match[2] != "%" and value >= 2 and value.is_integer())
    if value <= 0 or counted != (value >= 1):
        raise UsageError(f"{expected}, not {text!r}")
    return Target(quantity, value)


def _parse_latency(text: str) -> Target:
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*(%|us|ms|s)?\s*", text)
    value, unit = (float(match[1]), match[2]) if match else (0.0, None)
    amount = value * MILLISECONDS[unit] if unit in MILLISECONDS else value / (100 if unit == "%" else 1)
    absolute = unit in MILLISECONDS
    if not 0 < amount < (float("inf") if absolute else 1):
        raise UsageError(f"--latency takes a kept fraction between 0 and 1, or a time such as 5ms, not {text!r}")
    return Target("latency", amount, absolute)


def parse_pattern(text: str) -> tuple[int, int] | None:
    """Read a sparsity pattern: None for "unstructured", (2, 4) for "2:4", where 2 of every 4 weights stay.

    Raises:
        UsageError: neither, or nothing would be removed.
    """
    if text == "unstructured":
        return None
    match = re.fullmatch(r"(\d{1,4}):(\d{1,4})", text)
    if not match or not 0 < int(match[1]) < int(match[2]):
        raise UsageError(f"--pattern takes unstructured or N:M with N below M (2:4), not {text!r}")
    return int(match[1]), int(match[2])


def parse_blocks(text: str) -> tuple[BlockName, ...]:
    """Read building blocks: "channels,lowrank".

    Raises:
        UsageError: one that there is not, or one twice.
    """
    known = {str(name): name for name in BLOCK_NAMES}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known or names.count(name) > 1:
            raise UsageError(f"--blocks takes some of {', '.join(BLOCK_NAMES)} with commas between them, each once, not {text!r}")
    return tuple(known[name] for name in names)


@dataclass(frozen=True)
class PruneConfig(TrainingSettings):
    """Settings of one pruning run, and of the training in it; the defaults are what the benchmarks found best.

    Attributes:
        target: what to reach by cutting whole channels; exclusive with `sparsity`.
        sparsity: fraction of the weights to set to zero instead, in `pattern`.
        pattern: of zeros in place of cuts. "unstructured", or "N:M": N weights of every M consecutive inputs stay, so that `sparsity` is 1 - N/M.
            None: none for a target, unstructured for a sparsity.
        blocks: what may become smaller; names in `compresskit.pruning.blocks.BLOCKS`. "channels" are all widths, "heads" and "ffn" those of
            attention and of MLPs alone. Attention loses whole heads, with "head-width" the same width in all of them. "lowrank" lets layers become
            products of two.
        method: how channels, ranks or weights are chosen. "classic": by the criterion. "l1l2": by masks that are trained with the weights under a
            surrogate of the cost, and begin as the criterion ranks the channels (needs data). "auto": whichever measured better, classic. One of
            SALIENCIES: by what matters before training, of channels or, with a pattern, of weights.
        init: the model is fresh, and is trained after it was cut, not before.
        compute_aware: divide a saliency by what a channel costs (the thesis's eq. 3.5), smoothed by `smoothing`.
        inner_steps, first_order: of prospr: steps before the loss whose change is scored, and whether to leave out second derivatives, which
            hundreds of steps need. None: its own number.
        rescale, reinit: of a fresh model that was cut: bring the variance of its weights back, or draw them anew.
        criterion: name in `compresskit.pruning.criteria.CRITERIA`. "auto": reconstruction where there are data and
            few epochs, else l2: on CIFAR-10 at a third of the MACs it was 5 points better right after the cut, and 1.4 worse after 6 epochs
            (tests/benchmarks/results/criteria.json and cifar_pruning.json).
        scope: "global" compares channels across the model, "layer" cuts every group alike. None: layer for a criterion, else global.
        normalize: how scores are scaled within a group before they are compared: none, mean, max.
        floor: smallest kept fraction of any group, in [0, 1). None: 0.1; for a saliency 0, which leaves a channel.
        steps: number of cuts on the way to the target, with recovery between them when there is data.
        round_to: channel multiple to keep widths at; 0 measures what ONNX Runtime rewards here ("auto"); None: 8, on which its kernels
            waste least, or the largest of 4, 2 and 1 that lets the target be hit (2 or 1 where widths are learned; never for a latency).
        recipe: what the settings of training were taken from, see `from_recipe`.
        distill: labels only, by default: with the same epochs, 0.5 gained 0.8 points on a thousand digits, and lost 0.3 on CIFAR-10
            (tests/benchmarks/distillation.py).
        max_drop: largest accuracy loss allowed on the test split, as a fraction; None: no guard.
    """

    target: Target | None = None
    sparsity: float | None = None
    pattern: str | None = None
    blocks: tuple[BlockName, ...] = ("channels",)
    method: Method = "auto"
    init: bool = False
    compute_aware: bool = False
    smoothing: float = 0.05
    inner_steps: int | None = None
    first_order: bool = False
    rescale: bool = False
    reinit: bool = False
    criterion: str = "auto"
    scope: Literal["global", "layer"] | None = None
    normalize: str = "mean"
    floor: float | None = None
    steps: int = 1
    round_to: int | None = None
    max_drop: float | None = None
    recipe: RecipeName | None = None

    @classmethod
    def from_recipe(cls, name: RecipeName | None, **settings: Any) -> PruneConfig:
        """A config that trains by a recipe, but for what `settings` say; those of pruning itself are among them.

        A rate belongs to its optimizer: another optimizer, with no rate beside it, gets the one that is chosen for it.
        """
        if name is None:
            return cls(**settings)
        recipe = RECIPES[name].settings()
        if settings.get("optimizer", recipe["optimizer"]) != recipe["optimizer"]:
            recipe["learning_rate"] = None
        return cls(recipe=name, **{**recipe, **settings})

    @property
    def learns(self) -> bool:
        """Whether channels are chosen by trained masks."""
        return self.method == "l1l2"

    @property
    def salient(self) -> bool:
        """Whether a saliency before training says what matters."""
        return self.method in SALIENCIES

    @property
    def sparse(self) -> bool:
        """Whether weights are set to zero, rather than channels cut."""
        return self.sparsity is not None or self.pattern is not None

    def settled(self, *, data: bool = False) -> PruneConfig:
        """The same with all decided that was left to us, given whether there are data."""
        method: Method = "classic" if self.method == "auto" else self.method
        scored = data and self.epochs <= FEW_EPOCHS and not self.salient and not self.sparse
        return replace(
            self,
            method=method,
            criterion=("reconstruction" if scored else "l2") if self.criterion == "auto" else self.criterion,
            scope=self.scope or ("layer" if method == "classic" else "global"),
            floor=(0.0 if self.salient else 0.1) if self.floor is None else self.floor,
        )

    def check_data(self, *, data: bool) -> None:
        """Refuse what only data can teach, where there are none.

        Raises:
            UsageError: masks are to be learned, without data.
        """
        if self.learns and not data:
            raise UsageError("--method l1l2 learns from data: give --data, or --method classic")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.target is not None and self.sparsity is not None:
            raise UsageError(f"--{self.target.quantity} and a sparsity (--sparsity, --pattern N:M) contradict each other: give one")
        if self.target is None and self.sparsity is None:
            raise UsageError("say what to reach: one of --flops, --params, --size, --latency or --sparsity")
        if self.learns and self.steps > 1:
            raise UsageError("--method l1l2 cuts once, after masks have closed step by step: leave out --steps, or give --method classic")
        checks = {
            "--sparsity": (self.sparsity, self.sparsity is None or 0 < self.sparsity < 1, "a removed fraction between 0 and 1"),
            "--floor": (self.floor, self.floor is None or 0 <= self.floor < 1, "a kept fraction from 0 to below 1"),
            "--steps": (self.steps, self.steps >= 1, "1 or more"),
            "--round-to": (self.round_to, self.round_to is None or self.round_to >= 0, "1 or more, or 0 for auto"),
            "--inner-steps": (self.inner_steps, self.inner_steps is None or self.inner_steps >= 0, "0 or more"),
            "--smoothing": (self.smoothing, 0 <= self.smoothing < float("inf"), "0 or more"),
        }
        for name, (value, holds, expected) in checks.items():
            if not holds:
                raise UsageError(f"{name} takes {expected}, not {value:g}")
        self._check_pattern()
        self._check_blocks()
        self._check_saliency()

    def _check_blocks(self) -> None:
        """Refuse what building blocks do not go with."""
        parse_blocks(",".join(self.blocks))
        if self.sparse and self.blocks != ("channels",):
            raise UsageError("--blocks says which widths and ranks fall, and zeros leave all as they are: leave out --blocks, or ask for no zeros")
        if {"heads", "head-width"} <= set(self.blocks):
            raise UsageError("--blocks heads cuts whole heads, head-width all of them narrower: give one of them")
        if "lowrank" not in self.blocks:
            return
        if self.salient:
            raise UsageError(f"--method {self.method} says nothing about ranks: leave lowrank out of --blocks, or give --method classic or l1l2")
        if self.steps > 1:
            raise UsageError("--blocks lowrank factorizes once: leave out --steps")

    def _check_saliency(self) -> None:
        """Refuse what goes only with a saliency, or only with a fresh model."""
        if self.init and not self.salient:
            raise UsageError(f"--init prunes before training: give --method, one of {', '.join(SALIENCIES)}")
        if self.init and self.max_drop is not None:
            raise UsageError("--max-drop compares with the model before, which --init finds untrained: leave it out")
        if (self.rescale or self.reinit) and not (self.init and not self.sparse):
            raise UsageError("--rescale and --reinit are for the channels that --init leaves: give --init, and no --pattern or --sparsity")
        if self.compute_aware and (not self.salient or self.sparse):
            raise UsageError("--compute-aware weighs saliencies of channels: give --method, one of 3sp, prospr and the like, and no --pattern")
        if self.method != "prospr" and (self.inner_steps is not None or self.first_order):
            raise UsageError("--inner-steps and --first-order are settings of prospr: give --method prospr")
        if self.salient and self.pattern not in (None, "unstructured"):
            raise UsageError(f"--method {self.method} says nothing about --pattern {self.pattern}: leave out one of them")

    def _check_pattern(self) -> None:
        pattern = None if self.pattern is None else parse_pattern(self.pattern)
        if self.target is not None and self.pattern is not None and (pattern is not None or self.target.quantity != "params"):
            raise UsageError("--pattern sets weights to zero: it goes with --sparsity, unstructured with --params too")
        if self.sparsity is None or pattern is None:
            return
        removed = 1 - pattern[0] / pattern[1]
        if abs(self.sparsity - removed) > 1e-6:
            raise UsageError(f"--pattern {self.pattern} removes {removed:g} of the weights, not {self.sparsity:g}: give --sparsity {removed:g}")
