"""The figures of one dataset and backbone, as plotly's JSON."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from .answer import interval, points, verdict
from .results import Classes, Pair
from .style import BASELINE, DASHES, GAIN, LIGHT, LOSS, SYMBOLS, Figure, axis, figure, text, wrapped

FEW_CLASSES, MANY_CLASSES = 12, 30
MARGIN = 0.15  # beside the outermost ticks, decades
METHODS = {"pca": "PCA", "tsne": "t-SNE"}


def gains(pair: Pair) -> Figure:
    """Difference from the embedding with its 95 % interval, by combination; one series a protocol."""
    rows = pair.main[pair.main["difference"].notna()]
    order = rows["features"].drop_duplicates().tolist()
    series = []
    for number, protocol in enumerate(rows["protocol"].unique()):
        here = rows[rows["protocol"] == protocol].set_index("features").reindex(order).reset_index()
        x = 100 * here["difference"]
        notes = [f"{points(r.difference)} ({interval(r) or 'no interval'})" for r in here.itertuples()]
        series.append(
            {
                "type": "scatter",
                "mode": "markers",
                "orientation": "h",
                "offsetgroup": protocol,
                "name": pair.protocols[protocol],
                "x": _numbers(x),
                "y": [wrapped(name) for name in here["features"]],
                "marker": {"size": 9, "symbol": SYMBOLS[number]},
                "error_x": {
                    "type": "data",
                    "array": _numbers(100 * here["high"] - x),
                    "arrayminus": _numbers(x - 100 * here["low"]),
                    "thickness": 2,
                },
                "hovertext": notes,
                "hovertemplate": "%{y}: %{hovertext}<extra>%{fullData.name}</extra>",
            }
        )
    clear = sum(verdict(row) in ("better", "worse") for row in rows.itertuples())
    alt = f"Gains over the embedding: {clear} of {len(rows)} intervals exclude 0."
    return figure(
        series,
        alt,
        height=130 + 20 * (1 + len(series)) * len(order),
        scattermode="group",
        xaxis=axis("change, points", zeroline=True),
        yaxis={"type": "category", "autorange": "reversed"},
    )


def few_shot(pair: Pair, protocol: str) -> Figure:
    """Score against training clips a class, one line a combination."""
    rows = pair.scores[pair.scores["usual"] & (pair.scores["protocol"] == protocol) & (pair.scores["shots"] > 0)]
    ticks = sorted(rows["shots"].unique().tolist())
    alt = f"{pair.metric} for {', '.join(map(str, ticks))} training clips a class."
    return _curves(pair, rows, "shots", "std_draws", _at(ticks, "training clips a class"), alt)


def neighbours(pair: Pair, protocol: str) -> Figure:
    """Score against k, one line a combination; the linear probe has none."""
    rows = pair.scores[(pair.scores["protocol"] == protocol) & (pair.scores["shots"] == 0) & (pair.scores["k"] > 0)]
    ticks = sorted(rows["k"].unique().tolist())
    alt = f"{pair.metric} for k = {', '.join(map(str, ticks))}."
    return _curves(pair, rows, "k", "std", _at(ticks, "k, number of neighbours"), alt)


def _at(ticks: Sequence[int], title: str) -> Figure:
    """A logarithmic axis of these values and a margin."""
    margin = MARGIN if len(ticks) > 1 else MARGIN / 3
    ends = [float(np.log10(ticks[0])) - margin, float(np.log10(ticks[-1])) + margin] if ticks else None
    return axis(title, type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks], range=ends)


def _curves(pair: Pair, rows: pd.DataFrame, key: str, spread: str, x: Figure, alt: str) -> Figure:
    series = []
    for number, name in enumerate(pair.combinations):
        line = rows[rows["features"] == name].sort_values(key)
        if line.empty:
            continue
        look = _look(pair, number)
        series.append(
            {
                **look,
                "type": "scatter",
                "mode": "lines+markers",
                "x": [_apart(value, number, len(pair.combinations)) for value in line[key]],
                "customdata": line[key].tolist(),
                "y": _numbers(100 * line["mean"]),
                "error_y": {"type": "data", "array": _numbers(100 * line[spread]), "thickness": 1, "width": 3},
                "line": {"dash": DASHES[number % len(DASHES)], **look["line"]},
                "hovertemplate": f"%{{y:.1f}} % at %{{customdata}}<extra>{text(name)}</extra>",
            }
        )
    inside = rows["mean"].sub(rows[spread], fill_value=0).min() <= pair.chance <= rows["mean"].max()
    chance = [_level(100 * pair.chance, "chance")] if inside else []
    return figure(series, alt, xaxis=x, yaxis=axis(f"{pair.metric}, %"), height=_height(series), shapes=chance)


def _level(y: float, words: str) -> Figure:
    """A dotted line across the figure."""
    line = {"color": BASELINE, "dash": "dot", "width": 1.5}
    label = {"text": words, "textposition": "end", "font": {"color": BASELINE, "size": 11}}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, "label": label}


def _height(series: Sequence[Figure]) -> int:
    """Of a figure whose legend has one entry for each series."""
    return 370 + 10 * len(series)


def against_size(pair: Pair, protocol: str) -> Figure:
    """Score against the bytes that the features take on disk."""
    return _against(pair, protocol, "feature_bytes", 1e-6, "size of the features on disk, MB", "MB")


def against_cost(pair: Pair, protocol: str) -> Figure:
    """Score against the seconds that extraction took a clip."""
    return _against(pair, protocol, "seconds_per_clip", 1.0, "extraction, seconds a clip", "s a clip")


def _against(pair: Pair, protocol: str, column: str, unit: float, title: str, short: str) -> Figure:
    rows = pair.main[pair.main["protocol"] == protocol].set_index("features")
    series = []
    for number, name in enumerate(pair.combinations):
        seconds_or_bytes: Any = pair.costs.loc[name, column]
        cost = unit * seconds_or_bytes
        if name not in rows.index or pd.isna(cost):
            continue
        row: Any = rows.loc[name]
        series.append(
            {
                **_look(pair, number),
                "type": "scatter",
                "mode": "markers",
                "x": [float(cost)],
                "y": _numbers([100 * row["mean"]]),
                "error_y": {"type": "data", "array": _numbers([100 * row["std"]]), "thickness": 1},
                "hovertemplate": f"%{{y:.1f}} %, %{{x:.3g}} {short}<extra>{text(name)}</extra>",
            }
        )
    alt = f"{pair.metric} against {title} of {len(series)} combinations."
    x, y = axis(title, rangemode="tozero"), axis(f"{pair.metric}, %")
    return figure(series, alt, xaxis=x, yaxis=y, height=_height(series))


def confusion(found: Classes) -> Figure:
    """True against predicted class: colour is the share of the true class, text the number of clips."""
    counts = np.asarray(found.confusion)
    share = 100 * counts / np.maximum(found.clips, 1)[:, None]
    names = [text(name) for name in found.names]
    wrong = counts - np.diag(np.diag(counts))
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    worst = f" Most often, {found.names[row]} is taken for {found.names[column]} ({wrong.max()} clips)."
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": np.round(share, 1).tolist(),
        "text": counts.tolist(),
        "zmin": 0,
        "zmax": 100,
        "colorbar": {"thickness": 10, "title": {"text": "%"}},
        "hovertemplate": "%{y} taken for %{x}: %{text} clips, %{z} %<extra></extra>",
    }
    if len(names) <= FEW_CLASSES:
        heat |= {"texttemplate": "%{text}", "xgap": 1, "ygap": 1}
    small = {"type": "category", "tickfont": {"size": 12 if len(names) <= FEW_CLASSES else 9}, "dtick": 1}
    alt = f"Confusion matrix of {counts.sum()} test clips.{worst if wrong.max() else ''}"
    return figure(
        [heat],
        alt,
        height=max(420, 130 + 12 * len(names)),
        xaxis=axis("predicted", tickangle=-90, showgrid=False, showticklabels=len(names) <= MANY_CLASSES, **small),
        yaxis=axis("true", autorange="reversed", showgrid=False, **small),
    )


def per_class(found: Classes, baseline: Classes | None, what: str) -> Figure:
    """Difference of every class's score from the embedding's, sorted; without a baseline the score itself.

    Args:
        found: of the combination.
        baseline: of the embedding, same test clips.
        what: `accuracy`, or `F1` where clips have several labels.
    """
    clips = pd.Series(found.clips, index=found.names)
    clips = clips[clips > 0]
    score = pd.Series(found.score, index=found.names)[clips.index]
    if baseline is None:
        values, title, words = score, f"{what}, %", what
    else:
        values = score - pd.Series(baseline.score, index=baseline.names)[clips.index]
        title, words = "change, points", f"change of {what}"
    values = (100 * values).sort_values(kind="stable")
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": _numbers(values.round(2)),
        "y": [text(name) for name in values.index],
        "customdata": clips[values.index].tolist(),
        "marker": {"color": [GAIN if value >= 0 else LOSS for value in values]},
        "hovertemplate": "%{y}: %{x:.1f} (%{customdata} test clips)<extra></extra>",
    }
    alt = f"{words} for {len(values)} classes, from {values.iloc[0]:.1f} to {values.iloc[-1]:.1f}."
    return figure(
        [bars],
        alt,
        height=max(420, 130 + 14 * len(values)),
        xaxis=axis(title, zeroline=True),
        yaxis={"type": "category", "dtick": 1, "tickfont": {"size": 12 if len(values) <= MANY_CLASSES else 10}},
    )


def clip_map(clips: pd.DataFrame, method: str) -> Figure:
    """Clips in two dimensions, one series a class.

    Args:
        clips: rows of one combination from `maps.maps`.
        method: key of `METHODS`.
    """
    cycle = 1 if clips["label"].nunique() <= len(SYMBOLS) else len(LIGHT)
    series = []
    for number, (label, rows) in enumerate(clips.groupby("label", sort=True)):
        series.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": text(label),
                "x": _numbers(rows[f"{method}_x"], 4),
                "y": _numbers(rows[f"{method}_y"], 4),
                "text": [text(clip) for clip in rows["clip_id"]],
                "marker": {"size": 7, "symbol": SYMBOLS[number // cycle % len(SYMBOLS)], "opacity": 0.85},
                "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            }
        )
    alt = f"{METHODS[method]} of {len(clips)} clips of {len(series)} classes."
    bare = {"showticklabels": False, "zeroline": False}
    names = ("first component", "second component") if method == "pca" else ("", "")
    return figure(
        series,
        alt,
        height=560,
        showlegend=len(series) <= FEW_CLASSES,
        hovermode="closest",
        xaxis=axis(names[0], **bare),
        yaxis=axis(names[1], **bare),
    )


def _apart(value: float, number: int, count: int) -> float:
    """A value moved aside by up to 4 %, so that the error bars of several series do not cover each other."""
    return value * (1 + 0.08 * (number + 0.5 - count / 2) / count)


def _look(pair: Pair, number: int) -> Figure:
    """Name, symbol and (for the embedding) colour of a combination, the same in every figure."""
    name = pair.combinations[number]
    baseline = {"color": BASELINE} if name == pair.baseline else {}
    marker: dict[str, Any] = {"size": 9, "symbol": SYMBOLS[number % len(SYMBOLS)], **baseline}
    return {"name": text(name), "marker": marker, "line": baseline}


def _numbers(values: Sequence[float] | pd.Series, digits: int = 3) -> list[float | None]:
    """Floats for JSON; NaN becomes None."""
    return [None if pd.isna(value) else round(float(value), digits) for value in values]
