"""The results for people: Markdown and LaTeX."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from .table import SETTING, main_metric, summary, tuned

USUAL_K = 20
PROTOCOLS = {"knn": "k-NN", "knn-cosine": "k-NN with cosine votes", "linear": "linear probe", "finetune": "fine-tuned"}
SPREAD = "In %, mean over folds ± standard deviation over folds (few-shot: over draws); the best in bold."
DIFFERENCE = (
    "Difference: to {baseline}, in percentage points, with the 95 % interval of a paired bootstrap over the test clips "
    "of each fold, not corrected for the number of comparisons; an interval that contains 0 is no evidence of a gain."
)
P_VALUE = "p: McNemar's exact test on all test clips, not corrected either. Few-shot and other k: comparisons.csv."
TUNED = "A fine-tuned model is compared with the linear probe on {baseline}, all training clips."
ESCAPED = str.maketrans({c: "\\" + c for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"})


class Cell(NamedTuple):
    """A score in %: mean, spread (NaN where there is one fold) and whether no other of its column is higher."""

    mean: float
    spread: float
    best: bool


def notes(scores: pd.DataFrame, synthetic: Sequence[str], seeded: Sequence[str]) -> list[str]:
    """What a reader must know: data that is not real or left out, models that are not trained, the features' settings.

    Args:
        scores: from `table.collect`.
        synthetic: names of datasets made by a program.
        seeded: names of backbones with random weights.
    """
    text = [f"{name}: synthetic data; its numbers say nothing about real audio." for name in synthetic]
    text += [f"{name}: seeded random weights, not a trained model." for name in seeded]
    for name, count in scores.groupby("dataset", sort=False)["left_out"].first().items():
        if count:
            text.append(f"{name}: {count} clips could not be used and were left out (results/{name}/skipped.csv).")
    ungraded = scores[scores["value"].isna() & (scores["metric"] == "mAP")]
    for name, folds in ungraded.groupby("dataset", sort=False)["fold"].unique().items():
        found = ", ".join(sorted(folds))
        text.append(f"{name}: no mAP in fold {found} (each label is on all or no test clips); the means leave it out.")
    settings: dict[str, dict[str, Any]] = {}
    for row in scores["settings"].unique():
        settings |= json.loads(row)
    for name, values in settings.items():
        if values:
            text.append(f"Settings of {name}: {_words(values)}.")
    return text


def _words(settings: dict[str, Any]) -> str:
    """Settings as text, without those that are off."""
    words = []
    for key, value in settings.items():
        if isinstance(value, dict):
            words += [f"{key} {inner}" for inner in [_words(value)] if inner]
        elif value:
            words.append(key if value is True else f"{key} {value}")
    return ", ".join(words)


def title(protocol: Any, shots: Any, k: Any) -> str:
    """A setting in words, e.g. ``k-NN, k = 20, 5 shots``."""
    words = [PROTOCOLS.get(protocol, protocol)]
    words += [f"k = {k}"] if k else []
    words += [f"{shots} shot{'s' if shots > 1 else ''}"] if shots else []
    return ", ".join(words)


def cells(scores: pd.DataFrame) -> pd.DataFrame:
    """The main metric as `Cell`s.

    Returns:
        Columns `dataset`, `backbone`, `features`, `protocol`, `shots`, `k`, `metric`, `cell`, `usual`: whether
        this k is the one that stands for the protocol.
    """
    table = summary(scores)
    table = table[table["metric"] == table["dataset"].map(main_metric(scores))].reset_index(drop=True)
    spread = table["std_draws"].where((table["shots"] > 0) & table["std_draws"].notna(), table["std"])
    table["cell"] = [Cell(100 * m, 100 * s, b) for m, s, b in zip(table["mean"], spread, best(table), strict=True)]
    return table.assign(usual=usual(table)).drop(columns=["mean", "std", "std_draws"])


def best(table: pd.DataFrame) -> pd.Series:
    """Whether no row of the same dataset, backbone and setting shows a higher mean, in % with one decimal."""
    highest = table.groupby(["dataset", "backbone", *SETTING])["mean"].transform("max")
    return table["mean"].map(percent) == highest.map(percent)


def usual(table: pd.DataFrame) -> pd.Series:
    """Whether a row's k stands for its protocol: the closest to 20, or to the shots where they are fewer.

    With more neighbours than shots, even a draw's best vote is mostly of wrong classes. Of two k that are equally
    close it is the smaller.
    """
    shots = table["shots"].where(table["shots"] > 0, USUAL_K)
    order = table.assign(distance=(table["k"] - shots.clip(upper=USUAL_K)).abs()).sort_values(["distance", "k"])
    first = order.groupby(["dataset", "backbone", "protocol", "shots"])["k"].transform("first")
    return table["k"].eq(first.reindex(table.index))


def percent(share: float) -> str:
    """A share in %; empty for NaN."""
    return "" if pd.isna(share) else f"{100 * share:.1f}"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed; empty for NaN."""
    return "" if pd.isna(difference) else f"{100 * difference:+z.1f}".replace("+0.0", "0.0")


def interval(low: float, high: float) -> str:
    """The bounds of a difference in percentage points; empty for NaN."""
    return "" if pd.isna(low) else f"{points(low)} to {points(high)}"


def grid(table: pd.DataFrame) -> pd.DataFrame:
    """`cells` of one dataset and backbone: a row a combination of features, a column a setting in words.

    A combination that was not run in a setting has NaN there.
    """
    settings = [title(*setting) for setting in table[SETTING].itertuples(index=False, name=None)]
    wide = table.assign(setting=settings).pivot(index="features", columns="setting", values="cell")
    return wide.loc[table["features"].unique(), list(dict.fromkeys(settings))]


def markdown(
    scores: pd.DataFrame,
    comparisons: pd.DataFrame,
    costs: pd.DataFrame,
    captions: Sequence[str],
    baseline: str | None,
) -> str:
    """Tables for every dataset and backbone: one row a combination of features.

    Args:
        scores: from `table.collect`.
        comparisons: from `table.comparisons`.
        costs: from `cost_table.cost_table`.
        captions: sentences for the top, from `notes`.
        baseline: name of the embedding feature, if the run has one.
    """
    lines = ["# Results", "", *(f"- {caption}" for caption in captions), "", SPREAD]
    lines += [f"{how_to_compare(comparisons, baseline)} {P_VALUE}", ""] if baseline else [""]
    for run, table in cells(scores).groupby(["dataset", "backbone"], sort=False):
        full, usual = table["shots"] == 0, table["usual"]
        lines += [f"## {run[0]}, {run[1]}", "", *_compared(table[full & usual], _of(run, comparisons))]
        for heading, rows in [("Other numbers of neighbours", full & ~usual), ("Few-shot", ~full & usual)]:
            if rows.any():
                wide = grid(table[rows]).map(_plain, na_action="ignore").fillna("").reset_index()
                lines += [f"### {heading}", "", *_table(list(wide.columns), wide.to_numpy())]
        cost = [_cost(row) for row in _of(run, costs).itertuples()]
        if cost:
            lines += ["### Cost of extraction", "", *_table(COST_HEAD, cost)]
    return "\n".join(lines).rstrip() + "\n"


def how_to_compare(comparisons: pd.DataFrame, baseline: str | None) -> str:
    """What the differences of a run are."""
    words = [DIFFERENCE, TUNED] if tuned(comparisons).any() else [DIFFERENCE]
    return " ".join(words).format(baseline=baseline)


def latex(scores: pd.DataFrame, comparisons: pd.DataFrame, captions: Sequence[str], baseline: str | None = None) -> str:
    """Two `booktabs` tables a dataset and backbone: a row a combination of features, a column a setting.

    The first holds the scores, the second, where there is something to compare, the differences from the embedding.
    Arguments as for `markdown`.
    """
    text = ["% Needs \\usepackage{booktabs}."]
    run: Any
    for run, table in cells(scores).groupby(["dataset", "backbone"], sort=False):
        label, table = "-".join(run), table[table["usual"]]
        caption = " ".join([f"{', '.join(run)}: {table['metric'].iloc[0]}.", SPREAD, *captions])
        text += _booktabs(grid(table).map(_math, na_action="ignore").fillna(""), caption, f"tab:{label}")
        compared = table.merge(_of(run, comparisons), on=["features", *SETTING], suffixes=("", "_"))
        if len(compared):
            compared["cell"] = [_math_difference(row) for row in compared.itertuples()]
            caption = f"{', '.join(run)}: {compared['metric'].iloc[0]}. {how_to_compare(compared, baseline)}"
            text += _booktabs(grid(compared).fillna(""), caption, f"tab:{label}-differences")
    return "\n".join(text) + "\n"


def _booktabs(wide: pd.DataFrame, caption: str, label: str) -> list[str]:
    """The lines of one LaTeX table; cells are LaTeX already."""
    return [
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_escape(caption)}}}",
        f"  \\label{{{label}}}",
        f"  \\begin{{tabular}}{{l{'r' * wide.shape[1]}}}",
        "    \\toprule",
        _latex_row(["features", *map(_escape, wide.columns)]),
        "    \\midrule",
        *(_latex_row([_escape(name), *row]) for name, *row in wide.itertuples(name=None)),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]


def _of(run: tuple[Any, ...], table: pd.DataFrame) -> pd.DataFrame:
    return table[(table["dataset"] == run[0]) & (table["backbone"] == run[1])]


def _compared(table: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """A Markdown table for every setting, with the difference of each row to the embedding."""
    comparisons = comparisons.set_index(["features", *SETTING])
    lines = []
    for setting, rows in table.groupby(SETTING, sort=False):
        scores = zip(rows["features"], rows["cell"], strict=True)
        body = [[name, _plain(cell), *_difference(comparisons, (name, *setting))] for name, cell in scores]
        head = ["features", rows["metric"].iloc[0], "difference", "95 % interval", "p"]
        lines += [f"### {title(*setting)}", "", *_table(head, body)]
    return lines


def _plain(cell: Cell) -> str:
    if pd.isna(cell.mean):
        return ""
    mean = f"**{cell.mean:.1f}**" if cell.best else f"{cell.mean:.1f}"
    return mean if pd.isna(cell.spread) else f"{mean} ± {cell.spread:.1f}"


def _math(cell: Cell) -> str:
    if pd.isna(cell.mean):
        return ""
    mean = f"\\mathbf{{{cell.mean:.1f}}}" if cell.best else f"{cell.mean:.1f}"
    return f"${mean}$" if pd.isna(cell.spread) else f"${mean} \\pm {cell.spread:.1f}$"


def _difference(comparisons: pd.DataFrame, key: tuple[Any, ...]) -> list[str]:
    """Difference, interval and p-value as text; empty for the embedding itself."""
    if key not in comparisons.index:
        return ["", "", ""]
    row = comparisons.loc[key]
    p = "" if pd.isna(row["mcnemar_p"]) else f"{row['mcnemar_p']:.2g}"
    return [points(row["difference"]), interval(row["low"], row["high"]), p]


def _math_difference(row: Any) -> str:
    if pd.isna(row.difference):
        return ""
    bounds = "" if pd.isna(row.low) else f"\\ [{points(row.low)}, {points(row.high)}]"
    return f"${points(row.difference)}{bounds}$"


COST_HEAD = ["features", "clips/s", "s a clip", "peak memory, MB", "features, MB"]


def _cost(row: Any) -> list[str]:
    numbers = [
        f"{row.clips_per_second:.1f}",
        f"{row.seconds_per_clip:.3g}",
        f"{row.peak_mb:.0f}",
        f"{row.feature_bytes / 1e6:.1f}",
    ]
    return [row.features, *("" if number == "nan" else number for number in numbers)]


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    ruler = "|".join(["---", *["---:"] * (len(head) - 1)])
    return [f"| {' | '.join(head)} |", f"|{ruler}|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def _latex_row(row: Iterable[str]) -> str:
    return f"    {' & '.join(row)} \\\\"


def _escape(text: str) -> str:
    return text.translate(ESCAPED).replace("±", "$\\pm$")
