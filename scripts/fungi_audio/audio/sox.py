"""The program SoX: how it is called, what it reads that libsndfile does not."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError, FungiError
from ..files.whole import REASONS

RATE = 16_000
ONLY_SOX = frozenset(
    ("8svx", "amr", "amr-nb", "amr-wb", "awb", "gsm", "hcom", "maud", "mp2", "prc", "smp", "sndt", "txw", "wv")
)
"""File name suffixes that are given to SoX itself. Not among them: playlists, which name other files."""


def require() -> None:
    """Raise an error that says how to install SoX when it is missing."""
    if shutil.which("sox") is None:
        raise FungiError(
            "SoX is not installed; install it with `apt-get install sox` or `conda install -c conda-forge sox`"
        )


def run(arguments: Iterable[str], feed: Iterable[bytes] = ()) -> bytes:
    """Run SoX in its repeatable mode (a fixed seed for noise and dither).

    Args:
        arguments: all that follows the global options; file names must be absolute or begin with ``./``.
        feed: standard input, in pieces.

    Returns:
        Standard output.

    Raises:
        DataError: SoX failed; the message is its own.
        OSError: SoX could not write for want of space or permission.
        FungiError: SoX is not installed.
    """
    require()
    pipe = subprocess.PIPE
    with subprocess.Popen(["sox", "-R", "-V1", *arguments], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        try:
            for piece in feed:
                process.stdin.write(piece)
        except BrokenPipeError:
            pass
        except BaseException:
            process.kill()
            raise
        output, errors = process.communicate()
    message = errors.decode(errors="replace").strip()
    for code in REASONS:
        if os.strerror(code) in message:
            raise OSError(code, os.strerror(code))
    if process.returncode or "FAIL" in message:
        raise DataError(message.removeprefix("sox FAIL ") or f"SoX ended with status {process.returncode}")
    return output


def mono(rate: int) -> tuple[str, ...]:
    """Arguments that say what to make: one channel of 16-bit samples."""
    return ("-r", str(rate), "-c", "1", "-b", "16", "-e", "signed-integer")


def form(path: Path) -> tuple[int, int]:
    """Samples a second and channels of a file, as its header says.

    Raises:
        DataError: SoX cannot read it.
    """
    command = ["sox", "--info"]
    found = [
        subprocess.run([*command, fact, path.absolute()], capture_output=True, check=False) for fact in ("-r", "-c")
    ]
    try:
        rate, channels = (int(done.stdout) for done in found)
    except ValueError as error:
        raise DataError(found[0].stderr.decode(errors="replace").strip()) from error
    return rate, channels


def input_file(path: Path) -> list[str]:
    """Arguments that name an input file whose format its suffix tells; safe for any file name."""
    return ["-t", path.suffix.lower()[1:], str(path.absolute())]
