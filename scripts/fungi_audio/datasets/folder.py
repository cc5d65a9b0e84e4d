"""A folder of audio without labels, for pretraining: every audio file below it, LibriSpeech's tree among them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .listing import Clip, Listing

METADATA = ()
SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff"}


def read(folder: Path, options: Mapping[str, Any]) -> Listing:
    """One clip for each audio file, by its path below the folder; no labels, folds or splits.

    Hidden files and folders are left out. `options` are not used.

    Raises:
        DataError: no folder, or no audio in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; a folder of audio files was expected")
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]
    if not names:
        raise DataError(f"{folder} holds no audio ({', '.join(sorted(SUFFIXES))}). Correct `source:`")
    return Listing([Clip(name, name) for name in names], [])
