"""What every layout says about a dataset before any audio is read."""

import os
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ..errors import DataError


class Clip(NamedTuple):
    """One clip as the dataset's metadata has it."""

    clip_id: str  # the path as the metadata lists it, with /
    path: str  # below the raw folder
    labels: tuple[str, ...] = ()
    fold: int | None = None
    split: str | None = None
    problem: str = ""  # why it cannot be used; "" when the metadata is fine
    group: str | None = None  # speaker, recording or subject


class Label(NamedTuple):
    """One class: SSAST's id and the name for people."""

    mid: str
    name: str


class Listing(NamedTuple):
    """Clips in any order; classes in the order of their index; events, where a dataset says when a label holds."""

    clips: list[Clip]
    classes: list[Label]
    events: pd.DataFrame | None = None  # row (of `clips`), class (its name), onset, offset (seconds)


def find_root(folder: Path, marker: str, layout: str) -> Path:
    """The folder that holds `marker`: the raw folder or its only subfolder that does.

    Raises:
        DataError: no folder, or none or several hold it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; a dataset in the layout {layout} was expected")
    candidates = [folder, *sorted(child for child in folder.iterdir() if child.is_dir())]
    roots = [candidate for candidate in candidates if (candidate / marker).is_file()]
    if len(roots) == 1 or roots[:1] == [folder]:
        return roots[0]
    names = sorted(child.name for child in folder.iterdir() if not child.name.startswith("."))
    found = ", ".join(names[:10]) or "nothing"
    reason = f"{marker} in more than one folder" if roots else f"no {marker}"
    raise DataError(
        f"{folder} is not in the layout {layout}: {reason}. It holds: {found}. Correct `layout:` or `source:`"
    )


def leaves(folder: Path, path: str) -> bool:
    """Whether a path below a folder leads out of it, by `..` or through a link."""
    return not Path(os.path.realpath(folder / path)).is_relative_to(os.path.realpath(folder))


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark; line ends as they are.

    Raises:
        DataError: another encoding, naming the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8 (a spreadsheet "
            "program calls it CSV UTF-8)"
        ) from error
