"""Odd and broken audio, made here: what is accepted, what is refused. docs/data.md has the table."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fungi_audio.audio import check as module
from fungi_audio.audio.check import Finding, check


def noise(seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, (round(seconds * rate), channels))


def write(path: Path, samples: np.ndarray, rate: int = 16_000, **form: str) -> None:
    soundfile.write(path, samples, rate, **form)


def cut(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))


def write_long(path: Path) -> None:
    """A sparse file: 50 hours of 8 bits at 1 kHz."""
    size = 50 * 3600 * 1000
    write(path, noise(), 1000, subtype="PCM_U8")
    data = bytearray(path.read_bytes()[:44])
    data[4:8], data[40:44] = (36 + size).to_bytes(4, "little"), size.to_bytes(4, "little")
    path.write_bytes(data)
    os.truncate(path, 44 + size)


def one_bad_sample(value: float) -> np.ndarray:
    samples = noise()
    samples[-1] = value
    return samples


ACCEPTED: dict[str, tuple[Callable[[Path], None], str]] = {
    "8 bit.wav": (lambda path: write(path, noise(), subtype="PCM_U8"), ""),
    "24 bit.wav": (lambda path: write(path, noise(), subtype="PCM_24"), ""),
    "32 bit.wav": (lambda path: write(path, noise(), subtype="PCM_32"), ""),
    "float.wav": (lambda path: write(path, noise(), subtype="FLOAT"), ""),
    "double.wav": (lambda path: write(path, noise(), subtype="DOUBLE"), ""),
    "mu-law.wav": (lambda path: write(path, noise(), subtype="ULAW"), ""),
    "clip.flac": (lambda path: write(path, noise()), ""),
    "clip.ogg": (lambda path: write(path, noise()), ""),
    "clip.mp3": (lambda path: write(path, noise()), ""),
    "clip.aiff": (lambda path: write(path, noise()), ""),
    "stereo.wav": (lambda path: write(path, noise(channels=2)), ""),
    "flac named.wav": (lambda path: write(path, noise(), format="FLAC"), ""),
    "raw named.raw": (lambda path: write(path, noise(), format="WAV", subtype="PCM_16"), ""),
    "-n; touch PWNED | ü\n.wav": (lambda path: write(path, noise()), ""),
    "one frame.wav": (lambda path: write(path, noise(0.025)), ""),
    "192 kHz.wav": (lambda path: write(path, noise(rate=192_000), 192_000), ""),
    "eight channels.wav": (lambda path: write(path, noise(channels=8)), "8 channels"),
    "7999 Hz.wav": (lambda path: write(path, noise(rate=7999), 7999), "7999 samples a second"),
    "silence.wav": (lambda path: write(path, 0 * noise()), "silent"),
}

REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing.wav": (lambda path: None, "does not exist"),
    "folder.wav": (lambda path: path.mkdir(), "is not a file"),
    "pipe.wav": (lambda path: os.mkfifo(path), "is not a file"),
    "zero bytes.wav": (lambda path: path.touch(), "is empty (0 bytes)"),
    "no samples.wav": (lambda path: write(path, noise(0)), "has a header but no samples"),
    "half a header.wav": (lambda path: (write(path, noise()), os.truncate(path, 30)), "cannot be decoded"),
    "text.wav": (lambda path: path.write_text("I am no audio"), "cannot be decoded"),
    "random.wav": (lambda path: path.write_bytes(os.urandom(5000)), "cannot be decoded"),
    "cut.wav": (lambda path: (write(path, noise()), cut(path, 0.5)), "is cut short"),
    "cut.aiff": (lambda path: (write(path, noise()), cut(path, 0.5)), "is cut short"),
    "cut.flac": (lambda path: (write(path, noise(3)), cut(path, 0.5)), "cannot be decoded"),
    "cut.mp3": (lambda path: (write(path, noise(3)), cut(path, 0.5)), "is cut short"),
    "cut.ogg": (lambda path: (write(path, noise(0.5)), cut(path, 0.5)), "cannot be decoded"),
    "nan.wav": (lambda path: write(path, one_bad_sample(np.nan), subtype="FLOAT"), "has NaN or Inf samples"),
    "inf.wav": (lambda path: write(path, one_bad_sample(-np.inf), subtype="DOUBLE"), "has NaN or Inf samples"),
    "one sample.wav": (lambda path: write(path, noise()[:1]), "shorter than one frame"),
    "almost a frame.wav": (lambda path: write(path, noise()[:399]), "shorter than one frame"),
    "slow.wav": (lambda path: write(path, noise(), 999), "has 999 samples a second"),
    "fast.wav": (lambda path: write(path, noise(), 2_000_000_000), "has 2000000000 samples a second"),
    "two days.wav": (lambda path: write_long(path), "longer than 24 hours"),
    "text.amr": (lambda path: path.write_text("I am no audio"), "cannot be decoded"),
    "playlist.m3u": (lambda path: path.write_text("|touch PWNED\n"), "cannot be decoded"),
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.fault("audio", "{name}", "accepted, odd ones with a warning")
def test_accepted(tmp_path: Path, name: str) -> None:
    make, oddity = ACCEPTED[name]
    make(tmp_path / name)
    assert check(tmp_path / name)[:2] == ("", oddity)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.fault("audio", "{name}", "a problem of that clip, by name")
def test_refused(tmp_path: Path, name: str) -> None:
    make, problem = REFUSED[name]
    make(tmp_path / name)
    finding = check(tmp_path / name)
    assert problem in finding.problem
    assert finding.oddity == ""
    assert "\n" not in finding.problem


@pytest.mark.fault("audio", "a WAV header that declares no size", "accepted")
def test_a_header_written_to_a_pipe(tmp_path: Path) -> None:
    """Programs that write WAV to a pipe declare the largest size there is."""
    path = tmp_path / "streamed.wav"
    write(path, noise(), subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert check(path) == Finding(seconds=0.5, rate=16_000, channels=1)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_what_a_file_is(tmp_path: Path, form: str) -> None:
    write(tmp_path / "clip", noise(1.5, 22_050, 2), 22_050, format=form)
    finding = check(tmp_path / "clip")
    assert finding[3:] == (22_050, 2)
    assert finding.seconds == (pytest.approx(1.5, abs=0.06) if form == "MP3" else 1.5)


def test_a_format_that_only_sox_reads(tmp_path: Path) -> None:
    path = tmp_path / "clip.wv"
    subprocess.run(["sox", "-n", "-r", "8000", "-c", "2", path, "synth", "0.5", "sine", "300"], check=True)
    assert check(path) == Finding("", "8000 samples a second", 0.5, 8000, 2)
    cut(path, 0.3)
    assert "cannot be decoded" in check(path).problem


@pytest.mark.fault("audio", "a file that changes while it is read", "a problem of that clip, by name")
def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing.wav"
    write(path, noise())

    def decode_while_another_program_writes(path: Path) -> Finding:
        with path.open("ab") as file:
            file.write(b"more")
        return Finding()

    monkeypatch.setattr(module, "_decode", decode_while_another_program_writes)
    assert check(path) == Finding("changed while it was read")


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    assert "File name too long" in check(tmp_path / ("n" * 300)).problem


@pytest.mark.fault("audio", "an Ogg file cut between packets", "accepted: a shorter clip")
def test_an_ogg_file_cut_between_packets_is_a_shorter_clip(tmp_path: Path) -> None:
    path = tmp_path / "cut.ogg"
    write(path, noise(3))
    cut(path, 0.5)
    finding = check(path)
    assert finding[:2] == ("", "")
    assert finding.seconds == soundfile.info(path).duration < 2
