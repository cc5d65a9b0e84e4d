"""What the features of a run cost to extract, from Snakemake's benchmark files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow.parquet as pq

COST = ["clips_per_second", "seconds_per_clip", "peak_mb", "feature_bytes"]


class Jobs(NamedTuple):
    """The extraction of one feature.

    Attributes:
        benchmarks: files of the `benchmark:` directive of every job from the log-mels to the feature (all folds).
        parts: its Parquet files for one fold.
    """

    benchmarks: Sequence[str]
    parts: Sequence[str]


def cost_table(features: Mapping[tuple[str, str, str], Jobs], combinations: Sequence[str]) -> pd.DataFrame:
    """Extraction cost of every combination of features, where benchmark files are there.

    Jobs that several features of a combination share (encoding, projection) count once.

    Args:
        features: (dataset, backbone, feature) -> its jobs.
        combinations: feature names joined with ``+``.

    Returns:
        Columns `dataset`, `backbone`, `features`, `clips_per_second`, `seconds_per_clip` (wall time of
        the jobs, start-up included, one after the other), `peak_mb` (largest resident memory of a job,
        MiB) and `feature_bytes` (Parquet, one fold). What is not on disk any more is NaN.
    """
    rows = []
    for dataset, backbone in dict.fromkeys((dataset, backbone) for dataset, backbone, _ in features):
        for combination in combinations:
            jobs = [features[dataset, backbone, name] for name in combination.split("+")]
            rows.append({"dataset": dataset, "backbone": backbone, "features": combination, **_cost(jobs)})
    return pd.DataFrame(rows, columns=["dataset", "backbone", "features", *COST])


def _cost(jobs: Sequence[Jobs]) -> dict[str, float]:
    if not all(Path(part).is_file() for job in jobs for part in job.parts):
        return {}
    clips = sum(pq.read_metadata(part).num_rows for part in jobs[0].parts)
    size = sum(Path(part).stat().st_size for job in jobs for part in job.parts)
    paths = sorted({path for job in jobs for path in job.benchmarks})
    if not all(Path(path).is_file() for path in paths):
        return {"feature_bytes": size}
    runs = pd.concat([pd.read_csv(path, sep="\t", na_values="-") for path in paths])
    seconds = runs["s"].sum()
    return {
        "clips_per_second": clips / seconds,
        "seconds_per_clip": seconds / clips,
        "peak_mb": runs["max_rss"].max(),
        "feature_bytes": size,
    }
