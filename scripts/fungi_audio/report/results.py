"""What the report reads: scores, comparisons, predictions and maps of a run, in the shape of its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..datasets import labels
from ..evaluate.cost_table import COST
from ..evaluate.render import best, title, usual
from ..evaluate.table import RUN, SETTING, main_metric, number_of_neighbours, summary
from ..evaluate.table import read as read_table

NO_MAP = pd.DataFrame({"features": [], "clip_id": [], "label": []})


class Pair(NamedTuple):
    """The results of one dataset with one backbone.

    Attributes:
        dataset, backbone: names.
        metric: `accuracy`, or `mAP` where clips have several labels.
        chance: the metric of the best constant answer (`chance`).
        baseline: name of the embedding feature, if the run has one.
        combinations: of features, in the order of the run; then fine-tuned models.
        protocols: name -> in words, with all training clips and the usual k.
        scores: columns `features`, `protocol`, `shots`, `k`, `mean`, `std`, `std_draws`, `usual` (this k stands
            for the protocol), `best` (none of the same setting is higher) and those of the comparison with the
            baseline: `difference`, `low`, `high`, `mcnemar_p` (NaN for the baseline itself). Of the main metric.
        costs: a row a combination, columns `cost_table.COST`.
        at_edge: combinations whose linear probe, with all clips, chose the lowest or highest penalty.
        predictions: combination -> its Parquet files, a fold each.
        maps: from `maps.maps`; empty where a backbone was only fine-tuned.
    """

    dataset: str
    backbone: str
    metric: str
    chance: float
    baseline: str | None
    combinations: list[str]
    protocols: dict[str, str]
    scores: pd.DataFrame
    costs: pd.DataFrame
    at_edge: list[str]
    predictions: dict[str, list[str]]
    maps: pd.DataFrame

    @property
    def main(self) -> pd.DataFrame:
        """The scores with all training clips and the usual k."""
        return self.scores[self.scores["usual"] & (self.scores["shots"] == 0)]


def read(
    table: str | Path,
    comparisons: str | Path,
    predictions: Sequence[str],
    maps: Mapping[tuple[str, str], str],
    baseline: str | None,
) -> tuple[pd.DataFrame, list[Pair]]:
    """The results of a run.

    Args:
        table: `results/table.csv`.
        comparisons: `results/comparisons.csv`.
        predictions: Parquet files of the scores, in the order of the table.
        maps: (dataset, backbone) -> Parquet file of `maps.maps`.
        baseline: name of the embedding feature, if the run has one.

    Returns:
        The table as it is, and a `Pair` a dataset and backbone.
    """
    scores = read_table(table)
    origins = scores[[*RUN, "fold"]].drop_duplicates()
    origins["path"] = list(predictions)
    means = summary(scores)
    means = means[means["metric"] == means["dataset"].map(main_metric(scores))]
    means = means.assign(usual=usual(means), best=best(means))
    against = read_table(comparisons).drop(columns=["n_clips"]).astype({"shots": "int64", "k": "int64"})
    means = means.merge(against, how="left", on=[*RUN, *SETTING, "metric"])
    edge = scores[(scores["shots"] == 0) & scores["chosen"].str.contains('"at_edge": true', regex=False)]
    pairs = []
    which: Any
    for which, here in means.groupby(["dataset", "backbone"], sort=False):
        own, origin, edges = (_of(frame, *which) for frame in (scores, origins, edge))
        main = here[here["usual"] & (here["shots"] == 0)].drop_duplicates("protocol")
        files = {str(name): list(paths) for name, paths in origin.groupby("features", sort=False)["path"]}
        metric = here["metric"].iloc[0]
        pairs.append(
            Pair(
                dataset=which[0],
                backbone=which[1],
                metric=metric,
                chance=chance(next(iter(files.values())), metric),
                baseline=baseline,
                combinations=here["features"].drop_duplicates().tolist(),
                protocols={name: title(name, 0, k) for name, k in zip(main["protocol"], main["k"], strict=True)},
                scores=here.drop(columns=["dataset", "backbone", "metric"]),
                costs=own[["features", *COST]].drop_duplicates("features").set_index("features"),
                at_edge=edges["features"].drop_duplicates().tolist(),
                predictions=files,
                maps=pd.read_parquet(maps[which]) if which in maps else NO_MAP,
            )
        )
    return scores, pairs


def _of(frame: pd.DataFrame, dataset: str, backbone: str) -> pd.DataFrame:
    return frame[(frame["dataset"] == dataset) & (frame["backbone"] == backbone)]


def chance(paths: Sequence[str], metric: str) -> float:
    """What an answer that does not depend on the sound reaches, mean over folds.

    Args:
        paths: predictions of one combination, a fold each.
        metric: for `accuracy` the share of the most frequent class, for `mAP` the mean share of the classes.
    """
    shares = []
    for path in paths:
        true = pd.read_parquet(path, columns=["clip_id", "true"]).drop_duplicates("clip_id")["true"].astype("string")
        if metric == "accuracy":
            shares.append(true.value_counts(normalize=True).max())
        else:
            present = labels.split(true, multilabel=True)
            shares.append(labels.matrix(present, sorted({name for clip in present for name in clip})).mean())
    return float(np.mean(shares))


class Classes(NamedTuple):
    """How the test clips of all folds were classified by one combination and protocol.

    Attributes:
        names: of the classes, sorted.
        clips: int `[classes]`, test clips of each.
        score: float `[classes]`: the share classified correctly; F1 where clips have several labels.
        confusion: int `[true, predicted]`; None where clips have several labels.
    """

    names: list[str]
    clips: np.ndarray
    score: np.ndarray
    confusion: np.ndarray | None


def classes(paths: Sequence[str], k: Mapping[str, int], multilabel: bool) -> dict[str, Classes]:
    """Predictions with all training clips, counted class by class.

    Args:
        paths: predictions of one combination, a fold each.
        k: protocol -> its usual k.
        multilabel: clips may have several labels.

    Returns:
        Protocol -> `Classes`.
    """
    columns = ["true", "predicted", "protocol", "chosen"]
    read = [pd.read_parquet(path, columns=columns, filters=[("shots", "==", 0)]) for path in paths]
    table = pd.concat([one.astype("string") for one in read], ignore_index=True)
    table = table[number_of_neighbours(table["chosen"]) == table["protocol"].map(k)]
    count = _several if multilabel else _single
    return {str(name): count(rows["true"], rows["predicted"]) for name, rows in table.groupby("protocol", sort=False)}


def _single(true: pd.Series, predicted: pd.Series) -> Classes:
    names = sorted({*true, *predicted})
    counts = pd.crosstab(true, predicted).reindex(index=names, columns=names, fill_value=0).to_numpy()
    clips = counts.sum(axis=1)
    return Classes(names, clips, _share(np.diag(counts), clips), counts)


def _several(true: pd.Series, predicted: pd.Series) -> Classes:
    listed = [labels.split(texts, multilabel=True) for texts in (true, predicted)]
    names = sorted({name for clips in listed for clip in clips for name in clip})
    truth, said = (labels.matrix(clips, names) for clips in listed)
    both, either = (truth & said).sum(axis=0), truth.sum(axis=0) + said.sum(axis=0)
    return Classes(names, truth.sum(axis=0), _share(2 * both, either), None)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
