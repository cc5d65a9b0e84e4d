"""A run in small: features drawn at random, then the project's own evaluation, tables and maps."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fungi_audio.evaluate import cost_table, scores, table
from fungi_audio.files import features
from fungi_audio.report.maps import maps

DATASETS, BACKBONES = {"demo": 6, "several": 5, "many": 50}, ["demo-tiny"]
GRAPH: dict[str, list[str]] = {
    "index": [],
    "encode": ["index"],
    "gradient": ["encode", "index"],
    "report": ["gradient"],
}
NASTY = "<script>alert(1)</script>"
FEATURES = {
    "embedding": {"objective": "embedding"},
    "kl": {"objective": "kl", "temperature": 15},
    "simclr": {"objective": "simclr", "loss": "reference", "temperature": 0.07, "views": 4, "comparison_clips": 16},
}
COMBINATIONS = ["+".join(names) for size in (1, 2, 3) for names in combinations(FEATURES, size)]
FEW = ["embedding", "kl", "embedding+kl+simclr"]
EVALUATION = {
    "pca": None,
    "knn": {"k": [1, 5, 10], "votes": ["uniform", "cosine"], "temperature": 0.07},
    "linear": {"l2": {"values": 3, "from": -6, "to": 0}},
    "few_shot": {"shots": [1, 5], "draws": 2},
}


def config(datasets: dict[str, int], backbones: list[str]) -> dict[str, Any]:
    """A resolved config of such a run; `datasets` gives the number of classes."""
    return {
        "run": {"datasets": list(datasets), "backbones": backbones, "features": list(FEATURES)},
        "seed": 42,
        "datasets": {
            name: {"layout": "synthetic", "folds": [1, 2], "target_length": 128, "multilabel": "several" in name}
            for name in datasets
        },
        "backbones": {name: {"family": "ssast", "checkpoint": "random:tiny-patch"} for name in backbones},
        "features": FEATURES,
        "evaluation": EVALUATION,
    }


def make(root: Path, datasets: dict[str, int], backbones: list[str], clips: int = 10) -> dict[str, Any]:
    """Write `results/` of a run below `root`.

    Args:
        datasets: name -> number of classes; "several" in the name makes it multi-label. The first one gets
            every combination of features, the others a few; maps are made of all features together.
        clips: a class.

    Returns:
        Arguments of `report.results.read`.
    """
    frames, predictions, files, costs = [], [], {}, []
    for name, classes in datasets.items():
        evaluated = COMBINATIONS if name == next(iter(datasets)) else FEW
        table_of_clips = clip_table(classes, clips, "several" in name)
        for backbone in backbones:
            where = root / "results" / "features" / name / backbone
            parts = write_features(where, table_of_clips, classes, name, backbone)
            for combination in evaluated:
                chosen = {feature: parts[feature] for feature in combination.split("+")}
                for fold in ("1", "2"):
                    made = scores.evaluate(chosen, fold, EVALUATION, 42, "several" in name)
                    stem = root / "results" / "evaluation" / name / backbone / combination / fold
                    scores.write(*made, f"{stem}.csv", f"{stem}.predictions.parquet")
                    frames.append(made[0])
                    predictions.append(f"{stem}.predictions.parquet")
            files[name, backbone] = str(root / "results" / "maps" / name / f"{backbone}.parquet")
            Path(files[name, backbone]).parent.mkdir(parents=True, exist_ok=True)
            maps(parts, evaluated[-1:], 42).to_parquet(files[name, backbone], index=False)
            jobs = {}
            for feature, path in parts.items():
                benchmark = root / "results" / "benchmarks" / "gradient" / name / backbone / f"{feature}.tsv"
                benchmark.parent.mkdir(parents=True, exist_ok=True)
                seconds = 3.0 + 2 * len(jobs)
                benchmark.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:05\t{500 + 100 * len(jobs)}\n")
                jobs[name, backbone, feature] = cost_table.Jobs([str(benchmark)], path)
            costs.append(cost_table.cost_table(jobs, evaluated))
    long = pd.concat(frames, ignore_index=True).assign(left_out=0).round({"value": table.DECIMALS})
    against = table.comparisons(long, predictions, "embedding", 42)
    results = root / "results"
    (results / "table.csv").write_text(table.to_csv(long.merge(pd.concat(costs), how="left")), encoding="utf-8")
    (results / "comparisons.csv").write_text(table.to_csv(against), encoding="utf-8")
    return {
        "table": results / "table.csv",
        "comparisons": results / "comparisons.csv",
        "predictions": predictions,
        "maps": files,
        "baseline": "embedding",
    }


def clip_table(classes: int, clips: int, several: bool) -> pd.DataFrame:
    """Clips of two folds; a label and a clip that would be markup if a page believed them."""
    target = np.arange(classes * clips) % classes
    labels = np.array([f"class {number:02d}" for number in range(classes)], dtype=object)
    labels[0] = "<b>dog & cat</b>"
    label = labels[target]
    if several:
        label = [";".join(dict.fromkeys([one, labels[(number // 3) % classes]])) for number, one in enumerate(label)]
    names = [f"folder/{number:04d}.wav" for number in range(len(target))]
    names[0] = f"{NASTY}.wav"
    fold = 1 + (np.arange(len(target)) // classes) % 2
    return pd.DataFrame({"clip_id": names, "label": label, "fold": fold, "split": None, "target": target})


def write_features(
    folder: Path, clips: pd.DataFrame, classes: int, name: str, backbone: str
) -> dict[str, list[str | Path]]:
    """Class centres and noise: each gradient sees the classes through noise of its own."""
    rng = np.random.default_rng(len(name) + len(backbone))
    parts: dict[str, list[str | Path]] = {}
    for feature, noise in {"embedding": 1.6, "kl": 2.0, "simclr": 3.0}.items():
        centres = rng.normal(size=(classes, 24))
        x = centres[clips["target"]] + noise * rng.normal(size=(len(clips), 24))
        metadata = {
            "dataset": name, "backbone": backbone, "checkpoint": "0" * 64, "feature": feature, "fold": "all",
            "objective": feature, "settings": {k: v for k, v in FEATURES[feature].items() if k != "objective"},
            "precision": "fp32", "device": "cpu", "versions": {"torch": "2.11.0"},
        }  # fmt: skip
        path = folder / feature / "all" / "part-0.parquet"
        features.write(path, clips, x.astype(np.float32), metadata)
        parts[feature] = [path]
    return parts
