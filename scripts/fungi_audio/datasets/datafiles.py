"""SSAST's datafiles: which clips train, validate and test, where they lie, and with what labels."""

import json
import os
import socket
from pathlib import Path

import pandas as pd

from ..audio.sox import RATE
from ..errors import StorageError
from ..files.whole import put, write_text
from ..parallel import for_each
from . import folds


def audio_root(dataset: str, data_root: str | None, rate: int = RATE) -> str:
    """Where a dataset's audio at a rate lies: below `data_root`, else in the project."""
    if data_root is None:
        return f"resources/{'audio' if rate == RATE else f'audio-{rate}'}/{dataset}"
    root = Path(data_root).expanduser()
    return str(root / dataset if rate == RATE else root / f"audio-{rate}" / dataset)


def place(clips: pd.DataFrame, audio: str | Path, data_root: str | None, threads: int = 1, rate: int = RATE) -> Path:
    """Bring the audio to `data_root`: hard links where the file system allows, else copies.

    Files that are there already (same size and time) are left alone, so that every job that reads audio
    begins with this, on whatever machine it runs.

    Args:
        clips: clip table with the column `wav`.
        audio: the project's folder, named as the dataset.
        rate: of the audio.

    Returns:
        The folder to read from: `audio` itself where `data_root` is not set.

    Raises:
        StorageError: `root` cannot be written, or a file of `audio` is missing.
    """
    audio = Path(audio)
    if data_root is None:
        return audio
    root = Path(audio_root(audio.name, data_root, rate))

    def bring(wav: str) -> None:
        source, target = audio / wav, root / wav
        if not _same(source, target):
            target.parent.mkdir(parents=True, exist_ok=True)
            put(source, target, link=True)

    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError(13, "permission denied")
        if not root.samefile(audio):
            for_each("place", bring, list(clips["wav"]), threads)
    except OSError as error:
        raise StorageError(
            f"data_root: cannot bring the audio to {root} on {socket.gethostname()}: {error.filename or ''} "
            f"{error.strerror}. Choose a folder that every compute node can write, with enough space"
        ) from error
    return root


def _same(source: Path, target: Path) -> bool:
    if not target.exists():
        return False
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def datafile(clips: pd.DataFrame, root: str) -> str:
    """JSON as SSAST's `dataloader.py` reads it: ``{"data": [{"wav": path, "labels": "/m/…[,/m/…]"}, …]}``."""
    data = [{"wav": f"{root}/{wav}", "labels": mid} for wav, mid in zip(clips["wav"], clips["mid"], strict=True)]
    return json.dumps({"data": data}, ensure_ascii=False, indent=1) + "\n"


def write_datafiles(clips: pd.DataFrame, fold: str, root: str, paths: dict[str, str | Path]) -> None:
    """Write the datafiles of one fold.

    Args:
        clips: clip table.
        fold: as in `datasets.folds.split`.
        root: the folder that the clips' `wav` is below.
        paths: files by part: ``train``, ``test`` and, for an official split, ``valid``.

    Raises:
        DataError: the fold has no training or no test clips.
        StorageError: a file cannot be written.
    """
    rows = folds.split(clips, fold)._asdict()
    for part, path in paths.items():
        write_text(path, datafile(clips.take(rows[part]), root))
