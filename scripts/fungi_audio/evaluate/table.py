"""The results of a run: all scores in one long table, their means, and the comparisons with the embedding."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ..seeds import named_seed
from .statistics import bootstrap, mcnemar

RUN = ["dataset", "backbone", "features"]
SETTING = ["protocol", "shots", "k"]
COMPARISONS = [*RUN, *SETTING, "metric", "difference", "low", "high", "mcnemar_p", "n_clips"]
MAIN_METRICS = ("accuracy", "mAP")
TEXT = [*RUN, "protocol", "fold", "metric", "chosen", "settings"]
DECIMALS = 10  # what people read is rounded from these, in every table and in the report
PROBE = "linear"  # the protocol on the embedding that a fine-tuned model is compared with


def read(path: str | Path) -> pd.DataFrame:
    """One of the CSV tables: names stay text, whatever they look like (``2024``, ``NA``); an empty number is NaN."""
    numbers = pd.read_csv(path, nrows=0).columns.difference(TEXT)
    return pd.read_csv(
        path, dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values={key: [""] for key in numbers}
    )


def to_csv(table: pd.DataFrame) -> str:
    """The text of a CSV table; `read` gives the same scores and differences back."""
    return table.to_csv(index=False, float_format=f"%.{DECIMALS}g", lineterminator="\n")


def collect(paths: Sequence[str | Path], skipped: Mapping[str, str | Path] = MappingProxyType({})) -> pd.DataFrame:
    """All scores of a run: the CSV files of `scores.write`, one after the other.

    Args:
        skipped: dataset -> its ``skipped.csv``; the column `left_out` counts the clips that it lists.
    """
    left_out = {dataset: len(pd.read_csv(path)) for dataset, path in skipped.items()}
    scores = pd.concat([read(path) for path in paths], ignore_index=True).round({"value": DECIMALS})
    return scores.assign(left_out=[left_out.get(dataset, 0) for dataset in scores["dataset"]])


def number_of_neighbours(chosen: pd.Series) -> pd.Series:
    """k of the k-NN protocols, 0 of the others, from the column `chosen`."""
    known = {text: json.loads(text).get("k", 0) for text in chosen.unique()}
    return chosen.astype("string").map(known).astype("int64")


def main_metric(scores: pd.DataFrame) -> dict[str, str]:
    """The metric that each dataset is judged by: accuracy, or mAP where clips have several labels."""
    found = scores[scores["metric"].isin(MAIN_METRICS)].drop_duplicates("dataset")
    return dict(zip(found["dataset"], found["metric"], strict=True))


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of every score over folds and draws, and how much it varies.

    Args:
        scores: from `collect`.

    Returns:
        One row a (dataset, backbone, features, protocol, shots, k, metric), in the order of `scores`:
        `mean`; `std`, over folds of the mean over draws; `std_draws`, over draws of the mean over
        folds. Sample standard deviations; NaN where there is only one fold or draw.
    """
    keys = [*RUN, *SETTING, "metric"]
    table = scores.assign(k=number_of_neighbours(scores["chosen"]))
    over = {}
    for unit in ("fold", "seed"):
        over[unit] = table.groupby([*keys, unit], sort=False)["value"].mean().groupby(keys, sort=False)
    columns = {"mean": over["fold"].mean(), "std": over["fold"].std(), "std_draws": over["seed"].std()}
    return pd.DataFrame(columns).round(DECIMALS).reset_index()


def comparisons(
    scores: pd.DataFrame, predictions: Sequence[str | Path], baseline: str | None, seed: int
) -> pd.DataFrame:
    """Every combination of features against the embedding, protocol by protocol; fine-tuned models against its probe.

    Args:
        scores: from `collect`.
        predictions: the Parquet files of `scores.write`, one for each of the CSV files and in their order.
        baseline: name of the embedding feature; without one there is nothing to compare with.
        seed: of the run.

    Returns:
        Columns `COMPARISONS`, k 0 for protocols without neighbours: the difference in the main metric,
        mean over folds; its 95 % interval (`bootstrap`); the p-value of `mcnemar`, NaN for means over
        several draws. For clips with several labels interval and p-value are NaN.
    """
    means = summary(scores)
    means = means[means["metric"] == means["dataset"].map(main_metric(scores))]
    means["against"] = means["protocol"].mask(tuned(means), PROBE)
    same = ["dataset", "backbone", "against", "shots", "k", "metric"]
    embedding = means.loc[means["features"] == baseline, [*same, "mean"]]
    table = means[means["features"] != baseline].merge(embedding, on=same, suffixes=("", "_embedding"))
    table["difference"] = table["mean"] - table["mean_embedding"]
    origins = scores[[*RUN, "fold"]].drop_duplicates().itertuples(index=False, name=None)
    files = dict(zip(origins, predictions, strict=True))
    tests = {}
    for run, rows in table.groupby(["dataset", "backbone"], sort=False):
        hits = {(features, fold): correct(path) for (*of, features, fold), path in files.items() if tuple(of) == run}
        folds = dict.fromkeys(fold for _, fold in hits)
        for row in rows.itertuples():
            setting: Any = (row.protocol, row.shots, row.k)
            against: Any = (row.against, row.shots, row.k)
            pairs = [(hits[row.features, fold], hits[baseline, fold]) for fold in folds]
            pairs = [pair for pair in pairs if setting in pair[0].index]  # k may exceed a fold's few-shot draw
            differences = [(other.loc[setting] - embedding.loc[against]).to_numpy() for other, embedding in pairs]
            name = named_seed(seed, "bootstrap", *run, row.features, *setting)
            tests[row.Index] = {"n_clips": sum(map(len, differences)), **_test(differences, str(row.metric), name)}
    found = table.join(pd.DataFrame.from_dict(tests, orient="index")).reindex(columns=COMPARISONS)
    return found.round(dict.fromkeys(["difference", "low", "high"], DECIMALS))


def tuned(table: pd.DataFrame) -> pd.Series:
    """Which rows are models that were fine-tuned on their dataset (not those of another dataset applied to it)."""
    return (table["protocol"] == "finetune") & table["features"].str.startswith("finetune-")


def _test(folds: list[np.ndarray], metric: str, seed: int) -> dict[str, float]:
    if metric != "accuracy":
        return {}
    _, low, high = bootstrap(folds, seed)
    return {"low": low, "high": high, "mcnemar_p": mcnemar(folds)}


def correct(path: str | Path) -> pd.DataFrame:
    """Share of the draws in which each clip is classified correctly.

    Args:
        path: predictions of one fold, from `scores.write`.

    Returns:
        One row a (protocol, shots, k), one column a test clip.
    """
    table = pd.read_parquet(path)
    truth = table["true"].cat
    table["hit"] = table["predicted"].cat.set_categories(truth.categories).cat.codes == truth.codes
    table["k"] = number_of_neighbours(table["chosen"])
    return table.groupby([*SETTING, "clip_id"], observed=True, sort=False)["hit"].mean().unstack("clip_id")
