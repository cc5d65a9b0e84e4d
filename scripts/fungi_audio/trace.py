"""From a row of the results table to everything that made it.

    PYTHONPATH=scripts python -m fungi_audio.trace results/table.csv 17

Row 0 is the first one after the header. Every job leaves a record (`provenance.write_record`); this follows
them from the row's scores back to the files that came from outside, and prints YAML.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import DataError, FungiError
from .files.provenance import RECORDS
from .files.whole import sha256
from .report.settings import used

HASHED = 1 << 30  # bytes of the largest file that is read for its digest

ORIGIN = ("dataset", "backbone", "features", "fold")
WANTED = "Give the path of a run's results/table.csv"
MADE_WITH = ("commit", "versions", "device", "machine")


def trace(table: str | Path, row: int) -> dict[str, Any]:
    """What made one row.

    Args:
        table: ``results/table.csv`` in the folder of its run.
        row: index of the row, from 0.

    Returns:
        `score`: the row. `seed` of the run. `files`: SHA-256 of those that the row was made from (archive,
        checkpoint, features, …), the last one first. `made with`: commits, versions, devices and machines, and
        the jobs that ran with them. `jobs`: rule, outputs, params (the code's digest among them), the last one
        first. `config`: the part that decides the results, as it was when the row was scored.

    Raises:
        DataError: no such row, or the run left no records.
    """
    folder = Path(table).absolute().parent.parent
    score = _row(Path(table), row)
    records = _records(folder)
    chain = list(_chain(_scores(folder, records, Path(table).name, score), records))
    jobs = [records[path] for path in chain if path in records]
    if not jobs:
        raise _no_record(folder)
    jobs = list({json.dumps(job["output"]): job for job in jobs}.values())
    return {
        "score": score,
        "seed": jobs[0]["config"]["seed"],
        "files": {path: _digest(folder, path, records) for path in chain},
        "made with": _grouped(jobs),
        "jobs": [{key: job[key] for key in ("rule", "output", "params")} for job in jobs],
        "config": used(jobs[0]["config"]),
    }


def _row(table: Path, row: int) -> dict[str, str]:
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], list(reader)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {getattr(error, 'strerror', None) or error}. {WANTED}") from error
    missing = [column for column in ORIGIN if column not in columns]
    if missing:
        raise DataError(f"{table} is not a table of results: it lacks the column {', '.join(missing)}. {WANTED}")
    if not 0 <= row < len(rows):
        raise DataError(f"{table} has the rows 0 to {len(rows) - 1}, no row {row}")
    return rows[row]


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    """The record of the job that made each output."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / RECORDS).rglob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            found |= dict.fromkeys(record["output"], record)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error}; run the workflow again") from error
    return found


def _scores(folder: Path, records: dict[str, Any], name: str, score: dict[str, str]) -> str:
    """The file of scores that the table took the row from."""
    inputs = records.get(f"results/{name}", {"input": []})["input"]
    for path in inputs:
        if path.endswith(".csv") and (folder / path).is_file():
            with (folder / path).open(encoding="utf-8", newline="") as file:
                first = next(csv.DictReader(file), {})
            if all(first.get(key) == score[key] for key in ORIGIN):
                return path
    raise _no_record(folder)


def _no_record(folder: Path) -> DataError:
    return DataError(f"{folder / RECORDS} holds no record of the job that made this row; run the workflow again")


def _chain(path: str, records: dict[str, Any]) -> Iterator[str]:
    """A file and all that it was made from, each one once, nearest first."""
    pending, seen = [path], {path}
    for path in pending:
        yield path
        new = [source for source in records.get(path, {"input": []})["input"] if source not in seen]
        pending += dict.fromkeys(new)
        seen |= set(new)


def _digest(folder: Path, path: str, records: dict[str, Any]) -> str:
    """The SHA-256 of a file: as its download or the rule `checksum` recorded it, else of the file as it is now."""
    recorded = [f for f, job in records.items() if f.endswith("/archive.sha256") and path in job["input"]]
    for file in [*recorded, f"{path}.sha256"]:
        if (folder / file).is_file():
            return (folder / file).read_text(encoding="utf-8").split()[0]
    if (folder / path).is_dir():
        return "a folder"
    if not (folder / path).is_file():
        return "not there any more"
    return sha256(folder / path) if (folder / path).stat().st_size < HASHED else "a large file, not read"


def _grouped(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for job in jobs:
        made_with = {key: job[key] for key in MADE_WITH}
        group = groups.setdefault(json.dumps(made_with), made_with | {"rules": {}})
        group["rules"][job["rule"]] = group["rules"].get(job["rule"], 0) + 1
    return list(groups.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Print everything that made a row of the results table.")
    parser.add_argument("table", type=Path, help="results/table.csv")
    parser.add_argument("row", type=int, help="0 is the first row after the header")
    arguments = parser.parse_args()
    try:
        made = trace(arguments.table, arguments.row)
    except FungiError as error:
        sys.exit(str(error))
    print(yaml.safe_dump(made, sort_keys=False, allow_unicode=True, width=110), end="")


if __name__ == "__main__":
    main()
