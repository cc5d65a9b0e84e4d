"""From an unpacked dataset to its clip table, with every clip checked."""

import hashlib
import logging
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa

from ..audio.check import Finding, check
from ..errors import DataError
from ..files.archives import MAX_NAME, caseless
from ..files.whole import whole
from ..parallel import for_each
from . import read_listing
from .labels import SEPARATOR
from .listing import Clip, Label, leaves

log = logging.getLogger(__name__)

LINES = 20  # of a warning


class Index(NamedTuple):
    """The tables of a dataset."""

    clips: pd.DataFrame  # see docs/architecture.md
    classes: pd.DataFrame  # index, mid, display_name
    skipped: pd.DataFrame  # clip_id, reason

    def write(self, clips: str | Path, classes: str | Path, skipped: str | Path) -> None:
        """Write the tables: Parquet, CSV, CSV."""
        with whole(clips) as part:
            schema = pa.Schema.from_pandas(self.clips, preserve_index=False)
            labels = pa.field("labels", pa.list_(pa.string()))  # where no clip has one, there is no type to infer
            schema = schema.set(schema.get_field_index("labels"), labels)
            self.clips.to_parquet(part, index=False, schema=schema)
        for table, path in ((self.classes, classes), (self.skipped, skipped)):
            with whole(path) as part:
                table.to_csv(part, index=False)


def index(folder: str | Path, layout: str, options: Mapping[str, Any], skip: bool = False, threads: int = 1) -> Index:
    """Read a dataset's metadata and check every clip.

    Args:
        folder: the unpacked archive or a folder of the user.
        layout: a registered layout.
        options: what the layout's reader takes (`metadata`, `columns`, `multilabel`).
        skip: leave out clips that cannot be used instead of raising.
        threads: files decoded at a time.

    Raises:
        DataError: the folder is not in this layout, or (all listed) clips cannot be used.
    """
    folder = Path(folder)
    listing = read_listing(folder, layout, options)
    clips = sorted(listing.clips, key=lambda clip: clip.clip_id)
    checked = list(zip(clips, _check_all(folder, clips, threads), strict=True))
    bad = [(clip, finding.problem) for clip, finding in checked if finding.problem]
    good = [(clip, finding) for clip, finding in checked if not finding.problem]
    if bad and not skip:
        raise DataError(_report(folder, bad, len(clips)))
    if not good:
        raise DataError(f"{folder}: none of the {len(clips)} clips that the metadata lists can be used")
    for clip, problem in bad:
        log.warning("left out: %s %s", shown(clip.clip_id), problem)
    _warn(good, listing.classes)
    skipped = pd.DataFrame([(shown(clip.clip_id), problem) for clip, problem in bad], columns=["clip_id", "reason"])
    return Index(_clip_table(good, listing.classes), _class_table(listing.classes), skipped)


def shown(name: str) -> str:
    """A name from the data as one line of text."""
    return name if name.isprintable() and name else repr(name)


def _check_all(folder: Path, clips: list[Clip], threads: int) -> list[Finding]:
    twice = _repeated(clips)
    parents = {posixpath.dirname(clip.path) for clip in clips if not clip.problem}
    outside = {parent for parent in parents if leaves(folder, parent)}

    def find(clip: Clip) -> Finding:
        problem = clip.problem or twice.get(id(clip), "")
        if not problem and posixpath.dirname(clip.path) in outside:
            problem = "lies behind a link to a folder outside the dataset's folder"
        return Finding(problem) if problem else check(folder / clip.path)

    return for_each("check", find, clips, threads)


def _repeated(clips: list[Clip]) -> dict[int, str]:
    """Clips whose file is listed before, by identity, and those whose name is not text."""
    first: dict[str, Clip] = {}
    problems = {}
    for clip in clips:
        if clip.clip_id.encode(errors="ignore").decode() != clip.clip_id:
            problems[id(clip)] = "has a name that is not UTF-8"
        elif not clip.problem and first.setdefault(clip.path, clip) is not clip:
            problems[id(clip)] = f"is listed more than once (first as {shown(first[clip.path].clip_id)})"
    return problems


def _report(folder: Path, bad: list[tuple[Clip, str]], total: int) -> str:
    if len(bad) == total and {reason for _, reason in bad} == {"does not exist"}:
        return (
            f"none of the {total} clips that the metadata lists is below {folder}; the first one is "
            f"{bad[0][0].path}. Correct the paths in the metadata or `source:`"
        )
    lines = "\n".join(f"  {shown(clip.clip_id)} {reason}" for clip, reason in bad)
    return (
        f"{len(bad)} of {total} clips in {folder} cannot be used:\n{lines}\n"
        "Repair or remove them, or set `bad_clips: skip` for the dataset to leave them out"
    )


def _warn(clips: list[tuple[Clip, Finding]], classes: list[Label]) -> None:
    """Say what is odd but usable."""
    counts = {label.name: 0 for label in classes}
    for clip, _ in clips:
        for name in clip.labels:
            counts[name] += 1
    _warn_of("classes have no usable clip", [shown(name) for name, count in counts.items() if count == 0])
    _warn_of("classes have a single clip", [shown(name) for name, count in counts.items() if count == 1])
    _warn_of("clips are odd", [f"{shown(clip.clip_id)}: {found.oddity}" for clip, found in clips if found.oddity])
    if len(counts) == 1:
        log.warning("there is only one class: nothing to tell apart")


def _warn_of(what: str, items: list[str]) -> None:
    if items:
        more = f"\n  and {len(items) - LINES} more" if len(items) > LINES else ""
        log.warning("%d %s:\n  %s%s", len(items), what, "\n  ".join(items[:LINES]), more)


def _clip_table(checked: list[tuple[Clip, Finding]], classes: list[Label]) -> pd.DataFrame:
    clips, found = [clip for clip, _ in checked], [finding for _, finding in checked]
    number = {label.name: index for index, label in enumerate(classes)}
    return pd.DataFrame(
        {
            "clip_id": [clip.clip_id for clip in clips],
            "path": [clip.path for clip in clips],
            "wav": wav_names([clip.clip_id for clip in clips]),
            "label": [SEPARATOR.join(clip.labels) for clip in clips],
            "mid": [",".join(classes[number[name]].mid for name in clip.labels) for clip in clips],
            "target": pd.array([number[clip.labels[0]] if clip.labels else -1 for clip in clips], dtype="int32"),
            "fold": pd.array([clip.fold for clip in clips], dtype="Int32"),
            "split": pd.array([clip.split for clip in clips], dtype="str"),
            "seconds": pd.array([finding.seconds for finding in found], dtype="float64"),
            "rate": pd.array([finding.rate for finding in found], dtype="int32"),
            "channels": pd.array([finding.channels for finding in found], dtype="int32"),
            "group": pd.array([clip.group for clip in clips], dtype="str"),
            "labels": [list(clip.labels) for clip in clips],
        }
    )


def _class_table(classes: list[Label]) -> pd.DataFrame:
    return pd.DataFrame(
        [(index, label.mid, label.name) for index, label in enumerate(classes)],
        columns=["index", "mid", "display_name"],
    )


def wav_names(clip_ids: list[str]) -> list[str]:
    """Names of the 16 kHz files: the clip's own, ending in ``.wav``, inside the folder, unique when case is ignored."""
    taken: set[str] = set()
    names = []
    for clip_id in clip_ids:
        name = posixpath.normpath("/" + clip_id).lstrip("/")
        name = name if name.endswith(".wav") else f"{name}.wav"
        if caseless(name) in taken or any(len(part.encode()) > MAX_NAME for part in name.split("/")):
            name = f"{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}.wav"
        taken.add(caseless(name))
        names.append(name)
    return names
