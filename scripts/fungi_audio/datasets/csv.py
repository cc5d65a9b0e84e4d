"""A user's own dataset: a folder of audio and a CSV of path, label and fold or split."""

import csv
import io
import posixpath
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .labels import SEPARATOR
from .listing import Clip, Label, Listing, find_root, leaves, read_text

COLUMNS = {"path": "path", "label": "label", "fold": "fold", "split": "split", "group": "group"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
METADATA = ()  # the table is where the option `metadata` says
SPLITS = {name: split for split, names in SPLIT_NAMES.items() for name in names}


def read(folder: Path, options: Mapping[str, Any]) -> Listing:
    """Clips of a table, in the order of its lines.

    Args:
        folder: the raw folder.
        options: ``metadata``, path of the CSV below the folder; ``columns``, names of the columns path,
            label, fold, split and group where they are called otherwise; ``multilabel``, labels are joined with ";".

    Raises:
        DataError: the table cannot be read as a whole; what is wrong with single lines is in `Clip.problem`.
    """
    metadata = options.get("metadata", "metadata.csv")
    root = find_root(folder, metadata, "csv")
    if leaves(root, posixpath.dirname(metadata)):
        raise DataError(f"metadata: {metadata} in {root} leads out of the dataset's folder; put the table into it")
    columns = COLUMNS | options.get("columns", {})
    lines = read_table(root / metadata, columns["path"], columns["label"])
    here = posixpath.join(root.relative_to(folder).as_posix(), posixpath.dirname(metadata))
    clips = [_clip(line, columns, folder, here, options.get("multilabel", False)) for line in lines]
    if lines and not {columns["fold"], columns["split"]} & lines[0].keys():
        raise DataError(
            f"{root / metadata} has neither a column {columns['fold']!r} nor {columns['split']!r}; found: "
            f"{', '.join(lines[0])}. Add one, or name it under `columns:`"
        )
    if lines and columns["group"] not in {COLUMNS["group"], *lines[0]}:
        raise DataError(
            f"{root / metadata} has no column {columns['group']!r} (columns.group); found: {', '.join(lines[0])}"
        )
    names = sorted({label for clip in clips for label in clip.labels})
    return Listing(clips, [Label(f"/m/label{index:04d}", name) for index, name in enumerate(names)])


def read_table(path: Path, *required: str) -> list[dict[str, str]]:
    """Lines of a CSV (commas, double quotes, any line ends, UTF-8) by column name.

    Raises:
        DataError: unreadable, a column missing or named twice, or lines with too few or too many fields.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        lines = [(reader.line_num, fields) for fields in reader if any(field.strip() for field in fields)]
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not a valid CSV: {error}") from error
    missing = [name for name in required if name not in header]
    if missing:
        raise DataError(f"{path} lacks the column {', '.join(missing)}; found: {', '.join(header) or 'nothing'}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has more than one column {', '.join(twice)}")
    uneven = [str(number) for number, fields in lines if len(fields) != len(header)]
    if uneven:
        raise DataError(
            f"{path}: {len(uneven)} lines do not have {len(header)} fields like the header: line {', '.join(uneven)}. "
            "Put fields with commas or line ends in double quotes"
        )
    return [dict(zip(header, fields, strict=True)) for _, fields in lines]


def _clip(line: dict[str, str], columns: Mapping[str, str], folder: Path, here: str, multilabel: bool) -> Clip:
    listed = line[columns["path"]].strip()
    labels, label_problem = _labels(line[columns["label"]], multilabel)
    fold, fold_problem = _fold(line.get(columns["fold"], ""))
    split, split_problem = _split(line.get(columns["split"], ""))
    if fold is None and split is None:
        fold_problem = fold_problem or split_problem or "has no fold or split"
    path, path_problem = _path(folder, here, listed)
    problem = path_problem or label_problem or fold_problem or split_problem
    group = unicodedata.normalize("NFC", line.get(columns["group"], "").strip())
    return Clip(listed, path, labels, fold, split, problem, group or None)


def _path(folder: Path, here: str, listed: str) -> tuple[str, str]:
    """The path below the raw folder as the file system spells it."""
    if not listed:
        return "", "has no path"
    variants = [listed, *(unicodedata.normalize(form, listed) for form in ("NFC", "NFD")), listed.replace("\\", "/")]
    paths = [posixpath.normpath(posixpath.join(here, variant)) for variant in variants]
    if any(path.startswith(("/", "../")) or path == ".." for path in paths) or "\0" in listed:
        return "", "points outside the dataset's folder"
    return next((path for path in paths if _exists(folder / path)), paths[0]), ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _labels(text: str, multilabel: bool) -> tuple[tuple[str, ...], str]:
    text = unicodedata.normalize("NFC", text)
    labels = tuple(dict.fromkeys(label.strip() for label in (text.split(SEPARATOR) if multilabel else [text])))
    return ((), "has an empty label") if "" in labels else (labels, "")


def _fold(text: str) -> tuple[int | None, str]:
    text = text.strip()
    if not text:
        return None, ""
    if not re.fullmatch(r"[0-9]{1,9}(\.0+)?", text):
        return None, f"has the fold {text!r}, which is not a number from 0"
    return int(text.partition(".")[0]), ""


def _split(text: str) -> tuple[str | None, str]:
    text = text.strip()
    if not text:
        return None, ""
    if text.lower() not in SPLITS:
        return None, f"has the split {text!r}; allowed: {', '.join(SPLITS)}"
    return SPLITS[text.lower()], ""
