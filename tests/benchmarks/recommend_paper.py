"""Numbers that the text of Meta Compression gives, and what `recommend` is asked to reach."""

from __future__ import annotations

AIMS: dict[str, tuple[float, float]] = {
    "trials": (1500, float("inf")),
    "architectures": (12, float("inf")),
    "top5": (0.92, 1.0),
    "top1": (0.66, 1.0),
    "error": (0.0, 0.01),
    "mae": (0.0, 0.10),
    "tau": (0.65, 1.0),
    "coverage": (0.87, 0.93),
    "accuracy_top5": (0.98, 1.0),
}
"""From, to."""

_NAMES = ("top5", "top1", "error", "mae")


def _rows(rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(_NAMES, values, strict=True)) for name, values in rows.items()}


PAPER_NUMBERS = {
    "figure_3": {
        "ours": {"top5": 0.92, "top1": 0.66, "error": 0.01, "mae": 0.10, "tau": 0.65},
        "static": {"top5": 0.15, "top1": 0.06, "error": 0.25, "mae": 0.12},
        "static_pair": "slimming + lsq",
    },
    "table_1": _rows(
        {
            "level + uniform": (0.97, 0.92, 0.02, 0.14),
            "level-tuned + dorefa": (0.97, 0.65, 0.04, 0.07),
            "l1 + dorefa": (0.93, 0.45, 0.04, 0.08),
            "taylor + dorefa": (0.85, 0.38, 0.06, 0.08),
            "slimming + dorefa": (0.99, 0.70, 0.03, 0.18),
            "level-tuned + lsq": (0.98, 0.78, 0.01, 0.02),
            "l1 + lsq": (0.99, 0.64, 0.02, 0.06),
            "taylor + lsq": (1.00, 0.64, 0.03, 0.07),
            "slimming + lsq": (0.98, 0.72, 0.02, 0.17),
        }
    ),
    "table_2": _rows(
        {
            "architectures": (0.92, 0.66, 0.01, 0.10),
            "data and architectures": (0.91, 0.66, 0.02, 0.11),
            "methods": (0.86, 0.34, 0.11, 0.13),
            "data and methods": (0.85, 0.34, 0.12, 0.15),
        }
    ),
    "figure_5": {"keeps": {"top5": 0.98, "top1": 0.84, "error": 0.10, "mae": 0.07}},
    "figure_6": _rows(
        {
            "training": (0.48, 0.14, 0.13, 0.24),
            "test": (0.85, 0.55, 0.06, 0.12),
            "held out": (0.89, 0.58, 0.03, 0.12),
            "generated": (0.92, 0.66, 0.01, 0.10),
        }
    ),
}
"""By our names: the paper's one-shot "Prune + Quant" is level + uniform, and its level pruning before training is level-tuned."""

NOT_FOUND = [
    "the curves of figures 3a, 5a and 6a: drawn, not printed; only their summaries are beside ours",
    "tau of the static strategy, of table 1, of table 2, and of figures 5 and 6",
    "coverage of intervals: the paper predicts none",
    "whether a hit under an accuracy constraint asks for the highest compression, and the unit of its error: hence two readings",
    "our l1l2, pruning alone and quantization alone: not in table 1",
]
