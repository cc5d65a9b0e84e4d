"""Whether an audio file can be used: it is decoded once, completely."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ..errors import DataError
from . import sox
from .decode import blocks, opened

FRAME_SECONDS = 0.025
RATES = range(1_000, 768_001)
MAX_HOURS = 24
MP3_ESTIMATE = 0.9  # an MP3 header may only estimate its length
STREAMED = 0x7FFF0000  # a declared size from here on means "unknown": the header was written to a pipe
CUT_SHORT = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class Finding(NamedTuple):
    """What a file is, once decoded.

    Attributes:
        problem: why it cannot be used; "" when it can.
        oddity: what is odd about one that can be used; "" for an ordinary clip.
        seconds: decoded.
        rate: samples a second of a channel, as they are in the file.
        channels: of the file.
    """

    problem: str = ""
    oddity: str = ""
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0


def check(path: Path) -> Finding:
    """Decode a file with libsndfile, or with SoX where only SoX knows the format.

    Refused: missing, empty, not audio, damaged or cut short, no samples, shorter than a 25 ms frame, longer
    than a day, NaN or Inf samples, a sample rate outside 1 to 768 kHz, changed meanwhile. Odd: silent,
    fewer than 16,000 samples a second, more than two channels.
    """
    try:
        if not path.is_file():
            return Finding("is not a file" if path.exists() else "does not exist")
        before = path.stat()
        if before.st_size == 0:
            return Finding("is empty (0 bytes)")
        finding = _decode_with_sox(path) if path.suffix.lower()[1:] in sox.ONLY_SOX else _decode(path)
        after = path.stat()
    except OSError as error:
        return Finding(f"cannot be read: {error.strerror}")
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return Finding("changed while it was read")
    return finding


def _decode(path: Path) -> Finding:
    try:
        with opened(path) as file:
            finding = _check_header(file)
            return _check_samples(file) if not finding.problem else finding
    except soundfile.SoundFileError as error:
        return Finding(f"cannot be decoded: {getattr(error, 'error_string', error)}")


def _check_header(file: soundfile.SoundFile) -> Finding:
    cut = CUT_SHORT.search(file.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < STREAMED:
        return Finding(f"is cut short: {cut[2]} of {cut[1]} bytes of audio")
    if file.frames == 0:
        return Finding("has a header but no samples")
    if file.samplerate not in RATES:
        return Finding(f"has {file.samplerate} samples a second; 1,000 to 768,000 are allowed")
    return _check_length(file.frames / file.samplerate)


def _check_length(seconds: float) -> Finding:
    if seconds < FRAME_SECONDS:
        return Finding(f"is {seconds * 1000:.3g} ms long, shorter than one frame of 25 ms")
    if seconds > MAX_HOURS * 3600:
        return Finding(f"is longer than {MAX_HOURS} hours")
    return Finding()


def _check_samples(file: soundfile.SoundFile) -> Finding:
    decoded, silent = 0, True
    for block in blocks(file, "float32"):
        if not np.isfinite(block).all():
            return Finding("has NaN or Inf samples")
        decoded += len(block)
        silent = silent and not block.any()
    if decoded < file.frames * (MP3_ESTIMATE if file.format == "MP3" else 1):
        return Finding(f"is cut short: {decoded} of {file.frames} samples")
    return _usable(silent, decoded / file.samplerate, file.samplerate, file.channels)


def _usable(silent: bool, seconds: float, rate: int, channels: int) -> Finding:
    odd = {
        "silent": silent,
        f"{rate} samples a second": rate < sox.RATE,
        f"{channels} channels": channels > 2,
    }
    return Finding("", ", ".join(text for text, holds in odd.items() if holds), seconds, rate, channels)


def _decode_with_sox(path: Path) -> Finding:
    try:
        samples = sox.run([*sox.input_file(path), "-t", "raw", *sox.mono(sox.RATE), "-"])
        rate, channels = sox.form(path)
    except DataError as error:
        return Finding(f"cannot be decoded: {error}")
    seconds = len(samples) / 2 / sox.RATE
    finding = _check_length(seconds) if samples else Finding("has no samples")
    return finding if finding.problem else _usable(not any(samples), seconds, rate, channels)
