"""The answer of a run in words: do the gradients add anything to the embedding?"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..evaluate import render
from ..evaluate.table import DECIMALS
from .results import Pair

VERDICTS = {
    "better": "better",
    "worse": "worse",
    "noise": "inside the noise",
    "unknown": "no interval",
}


def points(value: float) -> str:
    """A difference of shares in percentage points, signed."""
    return render.points(value).replace("-", "−")


def interval(row: Any) -> str:
    """The 95 % interval of a comparison; empty where there is none."""
    return render.interval(row.low, row.high).replace("-", "−")


def verdict(row: Any) -> str:
    """`better`, `worse`, `noise` (the interval contains 0) or `unknown` (no interval)."""
    if pd.isna(row.low):
        return "unknown"
    return "better" if row.low > 0 else "worse" if row.high < 0 else "noise"


def everything(pair: Pair) -> str | None:
    """The embedding with all gradients of the run: the comparison chosen before any result was seen."""
    full = max(pair.combinations, key=lambda name: name.count("+"))
    return full if pair.baseline in pair.combinations and "+" in full else None


def comparison(pair: Pair, protocol: str) -> Any:
    """The row of `Pair.main` that compares `everything` with the embedding."""
    rows = pair.main[(pair.main["features"] == everything(pair)) & (pair.main["protocol"] == protocol)]
    return next(rows.itertuples())


def sentence(pair: Pair) -> str:
    """The answer for one dataset and backbone, by its first protocol."""
    if everything(pair) is None:
        return f"{pair.dataset} with {pair.backbone}: no embedding and gradients to compare."
    protocol, words = next(iter(pair.protocols.items()))
    row = comparison(pair, protocol)
    if pd.isna(row.difference):
        return f"{pair.dataset} with {pair.backbone}: no {pair.metric} to compare, no class can be graded."
    says = {
        "better": "Adding the gradients beats the embedding",
        "worse": "Adding the gradients is worse than the embedding",
        "noise": "No clear gain from adding the gradients",
        "unknown": "Adding the gradients to the embedding, difference without an interval",
    }[verdict(row)]
    before, after = (render.percent(round(value, DECIMALS)) for value in (row.mean - row.difference, row.mean))
    bounds = f", 95 % interval {interval(row)}" if interval(row) else ""
    inside = ", which contains 0" if verdict(row) == "noise" else ""
    return (
        f"{says}: {points(row.difference)} points of {pair.metric} ({before} to {after} %{bounds}{inside}), "
        f"{pair.dataset} with {pair.backbone}, {words}."
    )


def by_protocol(pair: Pair, skip: int = 0) -> str:
    """The same comparison by every protocol but the first `skip`, in short."""
    if everything(pair) is None:
        return ""
    lines = []
    compared = pair.main[pair.main["difference"].notna() & (pair.main["features"] == everything(pair))]
    for protocol in compared["protocol"].unique()[skip:]:
        words, row = pair.protocols[protocol], comparison(pair, protocol)
        bounds = f"{interval(row)}, " if interval(row) else ""
        lines.append(f"{words}: {points(row.difference)} ({bounds}{VERDICTS[verdict(row)]})")
    return "; ".join(lines)


def overall(pairs: Sequence[Pair], demonstration: bool) -> str:
    """The answer of the run in one sentence; a demonstration says that it is one."""
    says = _overall(pairs)
    return f"Demonstration only: {says[0].lower()}{says[1:]}" if demonstration else says


def text(pairs: Sequence[Pair], demonstration: bool) -> str:
    """`overall`, then a line a dataset and backbone with the verdict of every protocol."""
    lines = [f"{pair.dataset} with {pair.backbone}: {by_protocol(pair)}" for pair in pairs if everything(pair)]
    return "\n".join([overall(pairs, demonstration), *lines]) + "\n"


def _overall(pairs: Sequence[Pair]) -> str:
    compared = [pair for pair in pairs if everything(pair)]
    if len(pairs) == 1:
        return sentence(pairs[0])
    if not compared:
        return "This run has no embedding and gradients to compare."
    verdicts = [verdict(comparison(pair, next(iter(pair.protocols)))) for pair in compared]
    words = next(iter(compared[0].protocols.values()))
    without = f", without an interval in {verdicts.count('unknown')}" if "unknown" in verdicts else ""
    return (
        f"Of {len(compared)} pairs of dataset and backbone, adding the gradients to the embedding is better in "
        f"{verdicts.count('better')}, worse in {verdicts.count('worse')} and inside the noise in "
        f"{verdicts.count('noise')}{without} ({words})."
    )
