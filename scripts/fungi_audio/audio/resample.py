"""Every clip as mono 16-bit WAV at one rate, made by SoX."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import soundfile

from ..errors import DataError
from ..files.whole import REASONS, beside, put, whole_folder
from ..parallel import for_each
from . import sox
from .decode import blocks, opened

HEADER = 44  # bytes of a WAV header
SAME_TIME = 1_000_000  # nanoseconds; file systems round times
SAMPLES = {  # libsndfile's subtypes: how SoX gets them
    **dict.fromkeys(("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM"), ("int16", "16", "signed")),
    **dict.fromkeys(("PCM_24", "PCM_32"), ("int32", "32", "signed")),
}
FLOATS = ("float32", "32", "floating-point")


def resample(
    clips: pd.DataFrame, raw: str | Path, folder: str | Path, link: bool, threads: int = 1, rate: int = sox.RATE
) -> None:
    """Write the audio of a dataset at one rate to a folder, whole or not at all.

    SoX resamples and mixes channels as ``sox -R in.wav -r RATE -c 1 -b 16 out.wav`` does: its dither is kept,
    with a fixed seed. Files are decoded by libsndfile, by SoX itself where only SoX reads them. Those that
    are mono 16-bit WAV of that rate already are linked or copied as they are. An interrupted call goes on where it
    stopped, next to `folder`.

    Args:
        clips: clip table with the columns `path` (below `raw`) and `wav` (below `folder`).
        raw: the unpacked dataset.
        folder: replaced when it exists.
        link: hard-link files that need no resampling; false copies them.
        threads: clips at a time.
        rate: samples a second.

    Raises:
        DataError: clips that could not be converted, all listed.
        StorageError: `folder` cannot be written.
        FungiError: SoX is not installed.
    """
    sox.require()
    with whole_folder(folder, resume=True) as part:
        pairs = [(Path(raw, path), part / wav) for path, wav in zip(clips["path"], clips["wav"], strict=True)]
        wanted = {target for _, target in pairs}
        _keep_only(part, wanted)
        problems = for_each("resample", lambda pair: _convert(*pair, link, rate), pairs, threads)
        failed = [f"  {source} {problem}" for (source, _), problem in zip(pairs, problems, strict=True) if problem]
        if failed:
            raise DataError(
                f"{len(failed)} clips could not be resampled:\n" + "\n".join(failed) + "\nRepair them and run again; "
                "the other clips are kept"
            )
        _keep_only(part, wanted)


def _keep_only(folder: Path, wanted: set[Path]) -> None:
    """Remove what an interrupted call left: files of an older clip table, and of a SoX that outlived it."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def _convert(source: Path, target: Path, link: bool, rate: int) -> str:
    """Make one file unless it is there already; the reason when that fails."""
    try:
        before = source.stat()
        if _is_made(target, before.st_mtime_ns):
            return ""
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix.lower()[1:] in sox.ONLY_SOX:
            _run_sox(sox.input_file(source), (), target, rate)
        else:
            with opened(source) as file:
                if (file.format, file.subtype, file.samplerate, file.channels) == ("WAV", "PCM_16", rate, 1):
                    put(source, target, link)
                else:
                    _resample(file, target, rate)
        after = source.stat()
    except (soundfile.SoundFileError, DataError) as error:
        return f"cannot be decoded: {error}"
    except OSError as error:
        if error.errno in REASONS:
            raise
        return f"cannot be read: {error.strerror}"
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        target.unlink()
        return "changed while it was read"
    if not _is_made(target, after.st_mtime_ns):
        os.utime(target, ns=(after.st_atime_ns, after.st_mtime_ns))
    return ""


def _is_made(target: Path, time: int) -> bool:
    """Whether the file is there, with its source's time and samples (a power cut can leave it empty).

    Which of two times is later says nothing, where a clock may have been wrong.
    """
    if not target.exists():
        return False
    status = target.stat()
    return abs(status.st_mtime_ns - time) < SAME_TIME and status.st_size > HEADER


def _resample(file: soundfile.SoundFile, target: Path, rate: int) -> None:
    dtype, bits, encoding = SAMPLES.get(file.subtype, FLOATS)
    form = ["-t", "raw", "-r", str(file.samplerate), "-c", str(file.channels), "-b", bits, "-e", encoding, "-"]

    _run_sox(form, (block.tobytes() for block in blocks(file, dtype)), target, rate)


def _run_sox(form: list[str], feed: Iterable[bytes], target: Path, rate: int) -> None:
    with beside(target) as part:
        sox.run([*form, "-t", "wav", *sox.mono(rate), str(part.absolute())], feed)
