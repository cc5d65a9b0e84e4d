"""Whether one combination of features beats another, on the test clips of a finished run.

    PYTHONPATH=scripts python -m fungi_audio.compare results/table.csv embedding+kl+mpc embedding+kl

Every combination is compared with the embedding in `results/comparisons.csv`; this compares any two.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from .errors import DataError, FungiError, suggest
from .evaluate.render import interval, percent, points, title
from .evaluate.table import RUN, TEXT, comparisons, read, summary

SEED = 42


def compare(table: str | Path, features: str, against: str) -> pd.DataFrame:
    """The differences of two combinations, with all that the run evaluated them by.

    Args:
        table: ``results/table.csv`` of a run, its predictions beside it.
        features, against: combinations as the table has them; a fine-tuned model (``finetune-NAME``) is compared
            with the linear probe on `against`.

    Returns:
        Columns `evaluate.table.COMPARISONS`; equal to those of `results/comparisons.csv` where that compares the
        same two and the run's seed is `SEED`.

    Raises:
        DataError: not a table of results, no such combination, or predictions that are gone.
    """
    if not Path(table).is_file() or not {*TEXT} <= set(pd.read_csv(table, nrows=0).columns):
        raise DataError(f"{table} is not a table of results. Give the path of a run's results/table.csv")
    scores = read(table)
    known = scores["features"].unique()
    for name in (features, against):
        if name not in known:
            raise DataError(f"{table} has no {name!r}{suggest(name, known)}. It has: {', '.join(known)}")
    scores = scores[scores["features"].isin([features, against])]
    files = [
        Path(table).parent / "evaluation" / dataset / backbone / name / f"{fold}.predictions.parquet"
        for dataset, backbone, name, fold in scores[[*RUN, "fold"]].drop_duplicates().itertuples(index=False)
    ]
    gone = [str(file) for file in files if not file.is_file()]
    if gone:
        raise DataError(f"{gone[0]} is not there; keep results/evaluation, or run the workflow again")
    return comparisons(scores, files, against, SEED)


def readable(found: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Differences for a person: settings in words, points, intervals."""
    keys = ["dataset", "backbone", "features", "protocol", "shots", "k", "metric"]
    means = found.merge(summary(scores), on=keys)["mean"]
    return pd.DataFrame(
        {
            "dataset": found["dataset"],
            "backbone": found["backbone"],
            "setting": [title(*setting) for setting in zip(found["protocol"], found["shots"], found["k"], strict=True)],
            "score, %": means.map(percent),
            "difference": found["difference"].map(points),
            "95 % interval": list(map(interval, found["low"], found["high"])),
            "p": found["mcnemar_p"].map(lambda p: "" if pd.isna(p) else f"{p:.2g}"),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare two combinations of features on the same test clips.")
    parser.add_argument("table", type=Path, help="results/table.csv")
    parser.add_argument("features", help="a combination, such as embedding+kl")
    parser.add_argument("against", help="another one")
    arguments = parser.parse_args()
    try:
        found = compare(arguments.table, arguments.features, arguments.against)
    except FungiError as error:
        sys.exit(str(error))
    print(f"{arguments.features} against {arguments.against}, in percentage points")
    print(readable(found, read(arguments.table)).to_string(index=False))


if __name__ == "__main__":
    main()
