"""Resampling with the real SoX: what comes out, and what happens when something breaks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from fungi_audio.audio import sox
from fungi_audio.audio.resample import resample
from fungi_audio.datasets.index import index
from fungi_audio.errors import DataError, FungiError, StorageError

FORMS = {
    "44 kHz.wav": (44_100, 1, {}),
    "8 kHz.wav": (8_000, 1, {}),
    "7999 Hz.wav": (7_999, 1, {}),
    "stereo.wav": (16_000, 2, {}),
    "eight.wav": (48_000, 8, {"subtype": "PCM_24"}),
    "u8.wav": (44_100, 1, {"subtype": "PCM_U8"}),
    "float.wav": (22_050, 1, {"subtype": "FLOAT"}),
    "clip.flac": (44_100, 1, {}),
    "clip.ogg": (44_100, 2, {}),
    "clip.mp3": (44_100, 1, {}),
    "flac named.wav": (44_100, 1, {"format": "FLAC"}),
    "sub folder/-n; touch PWNED | ü.wav": (44_100, 1, {}),
    "done.wav": (16_000, 1, {}),
}


def tone(rate: int, channels: int, seconds: float = 0.5) -> np.ndarray:
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return np.repeat(wave[:, None], channels, axis=1)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    for name, (rate, channels, form) in FORMS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, tone(rate, channels), rate, **form)
    subprocess.run(["sox", "-n", "-r", "8000", folder / "only sox.wv", "synth", "0.5", "sine", "440"], check=True)
    lines = "\n".join(f"{name},x,1" for name in [*FORMS, "only sox.wv"])
    (folder / "metadata.csv").write_text(f"path,label,fold\n{lines}\n")
    return folder


@pytest.fixture
def clips(raw: Path) -> pd.DataFrame:
    return index(raw, "csv", {}).clips


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_format_becomes_16_khz_mono(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    resample(clips, raw, tmp_path / "audio", link=True, threads=2)
    assert sorted(content(tmp_path / "audio")) == sorted(clips["wav"])
    expected = tone(16_000, 1)[:, 0]
    for wav in clips["wav"]:
        samples, rate = soundfile.read(tmp_path / "audio" / wav)
        info = soundfile.info(tmp_path / "audio" / wav)
        assert (rate, info.format, info.subtype, info.channels) == (16_000, "WAV", "PCM_16", 1), wav
        assert abs(len(samples) - 8000) <= (1000 if "mp3" in wav else 1), wav
        peak = np.abs(np.fft.rfft(samples, 16_000)).argmax()
        assert abs(peak - 440) <= 1, wav
        if wav.endswith("44 kHz.wav"):
            assert np.abs(samples[100:-100] - expected[: len(samples)][100:-100]).max() < 1e-3


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_same_as_the_sox_command(raw: Path, clips: pd.DataFrame, tmp_path: Path, rate: int) -> None:
    resample(clips, raw, tmp_path / "audio", link=True, rate=rate)
    for name in ("44 kHz.wav", "stereo.wav", "eight.wav", "u8.wav", "clip.flac"):
        out = tmp_path / "sox.wav"
        subprocess.run(["sox", "-R", "-V1", raw / name, "-r", str(rate), "-c", "1", "-b", "16", out], check=True)
        wav = clips.set_index("clip_id").loc[name, "wav"]
        assert (tmp_path / "audio" / wav).read_bytes() == out.read_bytes(), name


def test_repeatable_for_any_thread_count_and_order(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    resample(clips, raw, tmp_path / "one", link=True, threads=1)
    resample(clips[::-1], raw, tmp_path / "two", link=False, threads=4)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_what_is_16_khz_already_is_not_touched(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    resample(clips, raw, tmp_path / "linked", link=True)
    assert (tmp_path / "linked" / "done.wav").samefile(raw / "done.wav")
    resample(clips, raw, tmp_path / "copied", link=False)
    assert not (tmp_path / "copied" / "done.wav").samefile(raw / "done.wav")
    assert (tmp_path / "copied" / "done.wav").read_bytes() == (raw / "done.wav").read_bytes()


def test_audio_at_another_rate(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    """Files of that rate are left as they are; 16 kHz is no exception then."""
    resample(clips, raw, tmp_path / "audio", link=True, rate=44_100)
    forms = {
        (info.samplerate, info.channels, info.subtype)
        for wav in clips["wav"]
        for info in [soundfile.info(tmp_path / "audio" / wav)]
    }
    assert forms == {(44_100, 1, "PCM_16")}
    linked = [
        name
        for name in FORMS
        if (tmp_path / "audio" / name).exists() and (tmp_path / "audio" / name).samefile(raw / name)
    ]
    assert linked == ["44 kHz.wav", "sub folder/-n; touch PWNED | ü.wav"]


def test_reference_clips(shared: Path, tmp_path: Path) -> None:
    """SoX as the reference used it, whose dither was seeded by the clock: at most 2 of 32,768 steps away."""
    for golden in sorted((shared / "golden" / "wav").glob("*_16k.wav")):
        ogg = next((shared / "data" / "esc10" / "audio").glob(golden.name.removesuffix("_16k.wav") + "-*.ogg"))
        samples, rate = soundfile.read(ogg)
        padded = np.zeros(220_500)
        padded[: len(samples)] = samples[:220_500]
        pcm = np.clip(np.rint(padded * 32768), -32768, 32767).astype("int16")
        soundfile.write(tmp_path / "in.wav", pcm, rate, subtype="PCM_16")
        clips = pd.DataFrame({"path": ["in.wav"], "wav": ["in.wav"]})
        resample(clips, tmp_path, tmp_path / "audio", link=True)
        ours, theirs = (
            soundfile.read(path, dtype="int16")[0].astype(int) for path in (tmp_path / "audio/in.wav", golden)
        )
        assert ours.shape == theirs.shape == (80_000,)
        assert np.abs(ours - theirs).max() <= 2
        assert abs((ours - theirs).mean()) < 0.01


@pytest.mark.fault("resample", "clips that cannot be converted", "one report; the others are kept")
def test_all_failures_in_one_report(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    (raw / "44 kHz.wav").write_text("text")
    (raw / "only sox.wv").write_text("text")
    (raw / "clip.flac").unlink()
    with pytest.raises(DataError) as error:
        resample(clips, raw, tmp_path / "audio", link=True, threads=2)
    assert "3 clips could not be resampled" in str(error.value)
    for line in ("44 kHz.wav cannot be decoded", "only sox.wv cannot be decoded", "clip.flac cannot be read: No such"):
        assert line in str(error.value)
    assert not (tmp_path / "audio").exists()


def test_repaired_clips_are_all_that_is_done_again(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    good = (raw / "44 kHz.wav").read_bytes()
    (raw / "44 kHz.wav").write_text("text")
    with pytest.raises(DataError):
        resample(clips, raw, tmp_path / "audio", link=True)
    made = (tmp_path / ".audio.part" / "8 kHz.wav").stat().st_ino
    (tmp_path / ".audio.part" / "stale.wav").touch()
    (raw / "44 kHz.wav").write_bytes(good)
    resample(clips, raw, tmp_path / "audio", link=True)
    assert (tmp_path / "audio" / "8 kHz.wav").stat().st_ino == made
    assert sorted(content(tmp_path / "audio")) == sorted(clips["wav"])


def test_changed_clips_are_done_again(raw: Path, clips: pd.DataFrame, tmp_path: Path) -> None:
    (raw / "44 kHz.wav").write_text("text")
    with pytest.raises(DataError):
        resample(clips, raw, tmp_path / "audio", link=True)
    for name in ("44 kHz.wav", "8 kHz.wav"):
        soundfile.write(raw / name, np.zeros(8000), 8000)
    resample(clips, raw, tmp_path / "audio", link=True)
    silence = soundfile.read(tmp_path / "audio" / "8 kHz.wav", dtype="int16")[0]
    assert np.abs(silence).max() <= 2, "no more than dither"


@pytest.mark.parametrize("jump", [-1e6, 1e6])
@pytest.mark.fault(
    "resample", "the clock jumps by {jump:+.0f} s between two attempts", "changed clips, and no others, are done again"
)
def test_clips_that_a_wrong_clock_dates(raw: Path, clips: pd.DataFrame, tmp_path: Path, jump: float) -> None:
    good = (raw / "44 kHz.wav").read_bytes()
    (raw / "44 kHz.wav").write_text("text")
    then = time.time() - jump
    for path in raw.rglob("*.*"):
        os.utime(path, (then, then))
    with pytest.raises(DataError):
        resample(clips, raw, tmp_path / "audio", link=True)
    kept = (tmp_path / ".audio.part" / "stereo.wav").stat().st_ino
    (raw / "44 kHz.wav").write_bytes(good)
    soundfile.write(raw / "8 kHz.wav", np.zeros(8000), 8000)
    os.utime(raw / "8 kHz.wav", (then + 2 * jump, then + 2 * jump))
    resample(clips, raw, tmp_path / "audio", link=True)
    assert np.abs(soundfile.read(tmp_path / "audio" / "8 kHz.wav", dtype="int16")[0]).max() <= 2
    assert (tmp_path / "audio" / "stereo.wav").stat().st_ino == kept


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
@pytest.mark.fault("resample", "killed (SIGKILL) after {delay} s", "goes on where it stopped; the same bytes")
def test_killed_and_started_again(tmp_path: Path, delay: float) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for number in range(150):
        soundfile.write(raw / f"{number}.wav", tone(44_100, 1), 44_100)
    names = [f"{number}.wav" for number in range(150)]
    pd.DataFrame({"path": names, "wav": names}).to_parquet(tmp_path / "clips.parquet")
    code = (
        "import sys, pandas; from fungi_audio.resample import resample; print('ready', flush=True);"
        "resample(pandas.read_parquet('clips.parquet'), 'raw', 'audio', True, 2)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(sox.__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "audio").exists() or len(content(tmp_path / "audio")) == 150
    clips = pd.read_parquet(tmp_path / "clips.parquet")
    resample(clips, raw, tmp_path / "audio", link=True, threads=2)
    resample(clips, raw, tmp_path / "undisturbed", link=True, threads=2)
    assert content(tmp_path / "audio") == content(tmp_path / "undisturbed")


def test_disk_full(small_disk: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    names = [f"{number}.wav" for number in range(20)]
    for name in names:
        soundfile.write(raw / name, tone(44_100, 1), 44_100)
    clips = pd.DataFrame({"path": names, "wav": names})
    with pytest.raises(StorageError, match=r"audio: no space left on the device"):
        resample(clips, raw, small_disk / "audio", link=True, threads=2)
    assert not (small_disk / "audio").exists()


@pytest.mark.fault("resample", "SoX is missing", "one message that says how to install it")
def test_sox_is_missing(raw: Path, clips: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FungiError, match="SoX is not installed; install it with `apt-get install sox`"):
        resample(clips, raw, tmp_path / "audio", link=True)
