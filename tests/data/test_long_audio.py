"""Reading the beginning of a long recording takes memory for what is kept."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fungi_audio.audio import read as audio
from fungi_audio.audio import sox
from tests.conftest import ROOT

PROGRAM = """
import sys
from pathlib import Path
from fungi_audio.audio import check, read
from fungi_audio.frontends.kaldi import Fbank

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

short, long = map(Path, sys.argv[1:])
work = [
    lambda path: Fbank(498).read(path),
    lambda path: read.waveform(path, samples=80_000),
    lambda path: check.check(path),
]
for step in work:
    step(short)
base = peak()
for step in work:
    step(long)
print(peak() - base)
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five seconds and an hour of noise with a constant part, 16 kHz."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds in [("short.wav", "5"), ("long.wav", "3600")]:
        form = ["-n", "-r", "16000", *sox.mono(16_000), str(folder / name)]
        sox.run([*form, "synth", seconds, "pinknoise", "vol", "0.4", "dcshift", "0.3"])
    return folder / "short.wav", folder / "long.wav"


def test_five_seconds_of_an_hour_take_little_memory(recordings: tuple[Path, Path]) -> None:
    command = [sys.executable, "-c", PROGRAM, *map(str, recordings)]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40  # MB; an hour is 220 in float32


def test_the_mean_is_that_of_the_whole_recording(recordings: tuple[Path, Path]) -> None:
    _, long = recordings
    kept = audio.read(long, samples=1_000)
    mean = np.mean([block.mean() for block in soundfile.blocks(long, 576_000)])  # 100 equal blocks, float64
    assert 0.29 < mean < 0.31
    assert np.abs(kept.double().numpy() - (soundfile.read(long, 1_000)[0] - mean)).max() < 1e-7


def test_up_to_ten_minutes_the_mean_is_torchs(tmp_path: Path) -> None:
    """Bit by bit as before there was a beginning to keep."""
    samples = 0.2 + 0.1 * np.random.default_rng(0).normal(size=599 * audio.RATE).astype(np.float32)
    soundfile.write(tmp_path / "clip.wav", samples, audio.RATE)
    whole = torch.from_numpy(soundfile.read(tmp_path / "clip.wav", dtype="float32")[0])
    expected = whole - whole.mean()
    assert torch.equal(audio.read(tmp_path / "clip.wav"), expected)
    assert torch.equal(audio.read(tmp_path / "clip.wav", samples=80_000), expected[:80_000])
