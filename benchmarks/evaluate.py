"""Time of the evaluation of an ESC-50 sized run: 7 combinations, 5 folds, k-NN, linear probe, 5-shot.

    python -m benchmarks.evaluate [--cores 2] [--json evaluate.json]

The features are synthetic (2,000 clips, 50 classes, three blocks of 768 dimensions with a falling
spectrum): the time depends on their size and spectrum, not on what they mean. As in the workflow, a job
is one combination and one fold on one core.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fungi_audio.evaluate import scores
from fungi_audio.files import features
from fungi_audio.files.provenance import versions

CLIPS, CLASSES, WIDTH, FOLDS = 2000, 50, 768, 5
BLOCKS = ("embedding", "kl", "simclr")
SETTINGS = {
    "pca": None,
    "knn": {"k": [1, 5, 10, 20, 50, 100], "votes": ["uniform", "cosine"], "temperature": 0.07},
    "linear": {"l2": {"values": 12, "from": -9, "to": 0}},
    "few_shot": {"shots": [5], "draws": 10},
}


def write_features(folder: Path) -> dict[str, list[Path]]:
    """Three blocks in Parquet: class means and noise under a spectrum that falls as 1 / sqrt(rank)."""
    rng = np.random.default_rng(0)
    target = np.arange(CLIPS) % CLASSES
    fold = 1 + np.arange(CLIPS) // CLASSES % FOLDS
    names = [f"clip-{i:04d}.wav" for i in range(CLIPS)]
    labels = [f"class {i}" for i in target]
    clips = pd.DataFrame({"clip_id": names, "label": labels, "fold": fold, "split": None})
    spectrum = np.arange(1, WIDTH + 1) ** -0.5
    parts = {}
    for name in BLOCKS:
        x = (0.2 * rng.normal(size=(CLASSES, WIDTH))[target] + rng.normal(size=(CLIPS, WIDTH))) * spectrum
        x = x @ np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
        parts[name] = [folder / f"{name}.parquet"]
        metadata = {"dataset": "synthetic", "backbone": "none", "feature": name, "settings": {}}
        features.write(parts[name][0], clips, x, metadata)
    return parts


def job(parts: dict[str, list[Path]], fold: str) -> dict[str, Any]:
    """One job of the rule `evaluate`: its CPU time, peak memory and accuracies with all training clips."""
    start = time.process_time()
    table, predictions = scores.evaluate(parts, fold, SETTINGS, seed=42)
    with tempfile.TemporaryDirectory() as folder:
        scores.write(table, predictions, f"{folder}/scores.csv", f"{folder}/predictions.parquet")
    full = table[(table["metric"] == "accuracy") & (table["shots"] == 0)]
    return {
        "cpu_seconds": time.process_time() - start,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "linear": float(full.loc[full["protocol"] == "linear", "value"].iloc[0]),
        "knn": float(full.loc[full["chosen"] == '{"k": 20}', "value"].iloc[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2, help="jobs at a time, each on one core (default 2)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by the processes that the pool starts
    names = [names for size in range(1, len(BLOCKS) + 1) for names in combinations(BLOCKS, size)]
    with tempfile.TemporaryDirectory() as folder:
        parts = write_features(Path(folder))
        start = time.perf_counter()
        with ProcessPoolExecutor(arguments.cores, mp_context=get_context("spawn")) as pool:
            jobs = {
                combination: [
                    pool.submit(job, {name: parts[name] for name in combination}, str(fold))
                    for fold in range(1, FOLDS + 1)
                ]
                for combination in names
            }
            results = {"+".join(key): [future.result() for future in futures] for key, futures in jobs.items()}
        total = time.perf_counter() - start

    print("| features | CPU s a fold | k-NN, k = 20 | linear probe |\n|---|---:|---:|---:|")
    for name, rows in results.items():
        mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("cpu_seconds", "knn", "linear")}
        print(f"| {name} | {mean['cpu_seconds']:.1f} | {mean['knn']:.3f} | {mean['linear']:.3f} |")
    rows = [row for fold_rows in results.values() for row in fold_rows]
    summary = {
        "seconds": total,
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        "peak_mb": max(row["peak_mb"] for row in rows),
        "cores": arguments.cores,
        "machine": platform.platform(),
        "versions": versions(),
    }
    print("\n{seconds:.0f} s on {cores} cores, {cpu_seconds:.0f} s of CPU, {peak_mb:.0f} MB a job".format_map(summary))
    if arguments.json:
        arguments.json.write_text(json.dumps({**summary, "jobs": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
