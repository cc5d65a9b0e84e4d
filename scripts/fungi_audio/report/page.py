"""The page: tables, figures and facts put into the template."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd
import plotly.offline

from ..evaluate.render import TUNED, notes, percent, title
from ..evaluate.table import tuned
from . import answer, figures, rulegraph, settings, style
from .results import Classes, Pair, classes

CONFIG_NAME = "run.yaml"


class Cell(NamedTuple):
    """A table's cell: what is shown, what it is sorted by (empty: last), its CSS class, a second line."""

    text: str
    value: float | str = ""
    kind: str = ""
    more: str = ""


def render(
    scores: pd.DataFrame,
    pairs: Sequence[Pair],
    config: dict[str, Any],
    graph: Mapping[str, Sequence[str]],
    jobs: Mapping[str, int],
    times: pd.DataFrame,
    facts: Mapping[str, str],
    commit: str | None,
) -> str:
    """The report as HTML that needs no other file and no network.

    Args:
        scores, pairs: from `results.read`.
        config: from `settings.used`.
        graph: rule -> rules whose files it reads.
        jobs: rule -> number of jobs.
        times: from `run.rule_times`.
        facts: more lines for "What was run", such as the machine and versions.
        commit: from `provenance.commit`.
    """
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    protocols: dict[str, str] = {}
    for pair in pairs:
        protocols |= pair.protocols
    drawn = {"figures": [pair_figures(pair, config) for pair in pairs], "themes": style.themes()}
    return environment.get_template("page.html").render(
        css=(folder / "page.css").read_text(encoding="utf-8"),
        javascript=(folder / "page.js").read_text(encoding="utf-8"),
        plotly=packed(plotly.offline.get_plotlyjs()),
        figures=packed(json.dumps(drawn, allow_nan=False, separators=(",", ":"))),
        pairs=pairs,
        several=len(pairs) > 1,
        answer=answer.overall(pairs, bool(settings.unreal(config))),
        short=[answer.by_protocol(pair, skip=0 if len(pairs) > 1 else 1) for pair in pairs],
        warnings=settings.unreal(config) + settings.seen(config),
        notes=notes(scores, [], []),
        tuned=[TUNED.format(baseline=pair.baseline) for pair in pairs if tuned(pair.main).any()][:1],
        protocols=protocols.values(),
        rows=[row for pair in pairs for row in main_rows(pair, list(protocols))],
        edges=[
            f"{pair.dataset} with {pair.backbone} ({len(pair.at_edge)} of {len(pair.combinations)} combinations)"
            for pair in pairs
            if pair.at_edge
        ],
        every=[row for pair in pairs for row in every_row(pair)],
        facts=facts,
        times=times,
        picture=rulegraph.svg(graph, jobs),
        commit=commit,
        digest=settings.digest(config),
        config_name=CONFIG_NAME,
        config=settings.as_yaml(config),
        removed=settings.removed(config),
    )


def packed(text: str) -> str:
    """Gzip in base64, which the page unpacks; the same text gives the same bytes."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def pair_figures(pair: Pair, config: dict[str, Any]) -> dict[str, Any]:
    """All figures of a dataset and backbone, as `page.js` looks them up."""
    multilabel = config["datasets"][pair.dataset].get("multilabel", False)
    k: Any = pair.main.drop_duplicates("protocol").set_index("protocol")["k"].to_dict()
    found = {name: classes(pair.predictions[name], k, multilabel) for name in pair.combinations}
    score = "F1" if multilabel else "accuracy"
    having = {protocol: [name for name in found if protocol in found[name]] for protocol in pair.protocols}

    def per_class(name: str, protocol: str) -> style.Figure:
        before: Classes | None = None
        if pair.baseline in having[protocol] and name != pair.baseline:
            before = found[str(pair.baseline)][protocol]
        return figures.per_class(found[name][protocol], before, score)

    by_protocol = [figures.few_shot, figures.neighbours, figures.against_size, figures.against_cost]
    return {
        "names": {
            "protocols": list(pair.protocols.items()),
            "combinations": pair.combinations,
            "everything": answer.everything(pair),
            "labels": sorted(pair.maps["label"].unique()),
        },
        "gains": figures.gains(pair),
        **{draw.__name__: {name: draw(pair, name) for name in pair.protocols} for draw in by_protocol},
        "confusion": {
            protocol: {name: figures.confusion(found[name][protocol]) for name in having[protocol] if not multilabel}
            for protocol in pair.protocols
        },
        "per_class": {protocol: {name: per_class(name, protocol) for name in having[protocol]} for protocol in having},
        "map": {
            str(name): {method: figures.clip_map(clips, method) for method in figures.METHODS}
            for name, clips in pair.maps.groupby("features", sort=False)
        },
    }


def main_rows(pair: Pair, protocols: Sequence[str]) -> list[dict[str, Any]]:
    """The main table: a row a combination; for every protocol score and difference; cost."""
    rows = []
    for name in pair.combinations:
        found = {row.protocol: row for row in pair.main[pair.main["features"] == name].itertuples()}
        cells = []
        for protocol in protocols:
            row: Any = found.get(protocol)
            cells += [Cell(""), Cell("")] if row is None else [_score(row), _difference(row)]
        cost: Any = pair.costs.loc[name]
        cells += [
            _number(cost["clips_per_second"], "{:.1f}"),
            _number(cost["peak_mb"], "{:.0f}"),
            _number(cost["feature_bytes"] / 1e6, "{:.2f}"),
        ]
        rows.append({"dataset": pair.dataset, "backbone": pair.backbone, "features": name, "cells": cells})
    return rows


def every_row(pair: Pair) -> list[dict[str, Any]]:
    """The long table: a row a combination and setting."""
    rows = []
    row: Any
    for row in pair.scores.itertuples():
        spread = row.std_draws if row.shots and pd.notna(row.std_draws) else row.std
        bounds = answer.interval(row)
        cells = [
            _number(100 * row.mean, "{:.1f}"),
            _number(100 * spread, "{:.1f}"),
            Cell("") if pd.isna(row.difference) else Cell(answer.points(row.difference), row.difference),
            Cell(bounds, row.low if bounds else "", answer.verdict(row)),
            _number(row.mcnemar_p, "{:.2g}"),
        ]
        where = {"dataset": pair.dataset, "backbone": pair.backbone, "features": row.features}
        rows.append({**where, "setting": title(row.protocol, row.shots, row.k), "cells": cells})
    return rows


def _score(row: Any) -> Cell:
    if pd.isna(row.mean):
        return Cell("")
    spread = "" if pd.isna(row.std) else f" ± {percent(row.std)}"
    return Cell(f"{percent(row.mean)}{spread}", row.mean, "best" if row.best else "")


def _difference(row: Any) -> Cell:
    if pd.isna(row.difference):
        return Cell("")
    return Cell(answer.points(row.difference), row.difference, answer.verdict(row), answer.interval(row))


def _number(value: float, form: str) -> Cell:
    return Cell("") if pd.isna(value) else Cell(form.format(value), float(value))
