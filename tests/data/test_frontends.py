"""Front ends on files: names, the memory of long recordings, caches of clips that keep their lengths."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fungi_audio.audio import read as audio
from fungi_audio.errors import ConfigError, DataError
from fungi_audio.frontends import kaldi, module_of, named
from fungi_audio.frontends.base import Statistics
from fungi_audio.frontends.cache import Cache, build, offsets_of, write_statistics
from fungi_audio.frontends.kaldi import Fbank
from tests.conftest import ROOT

LENGTHS = (400, 559, 560, 4_321, 17_000)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of five lengths with a constant part, and what stays of it is not 0."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for length in LENGTHS:
        soundfile.write(folder / f"{length:05d}.wav", 0.2 + 0.1 * random.normal(size=length), audio.RATE)
    return sorted(folder.iterdir())


def test_names() -> None:
    for name, frames, centre in [("fbank", None, True), ("fbank-512", 512, True), ("fbank-ast-1024", 1024, False)]:
        front = named(name)
        assert isinstance(front, Fbank)
        assert (front.name, front.frames, front.centre) == (name, frames, centre)
    with pytest.raises(ConfigError, match="no front end 'mel-3'; their names begin with fbank"):
        named("mel-3")
    with pytest.raises(ConfigError, match="'fbank-x': expected fbank"):
        named("fbank-x")


def test_names_are_known_without_torch() -> None:
    program = (
        "import sys; from fungi_audio import frontends; print(frontends.module_of('fbank-512'), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [module_of("fbank-512"), "False"] == ["frontends.kaldi", "False"]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("frames", [None, 20, 200])
def test_a_file_and_its_waveform_give_the_same(clips: list[Path], frames: int | None, centre: bool) -> None:
    front = Fbank(frames, centre=centre)
    for path, samples in zip(clips, LENGTHS, strict=True):
        waveform = audio.waveform(path)
        values = front(waveform)
        assert torch.equal(values, front.read(path))
        assert len(values) == front.length(samples) == (frames or 1 + (samples - 400) // 160)
        assert torch.equal(values, kaldi.cut_or_pad(kaldi.log_mel(waveform - centre * waveform.mean()), len(values)))


def test_the_mean_of_the_waveform_is_removed_or_not(clips: list[Path]) -> None:
    """It matters in the last digits only: Kaldi removes the mean of every window as well."""
    assert not torch.equal(Fbank(centre=True).read(clips[4]), Fbank(centre=False).read(clips[4]))


def test_a_long_clip_is_computed_in_pieces() -> None:
    waveform = 0.1 * torch.randn(160 * 20_000, generator=torch.manual_seed(0))
    pieces, whole = Fbank()(waveform), kaldi.cut_or_pad(kaldi.log_mel(waveform - waveform.mean()), 19_998)
    assert pieces.shape == (19_998, 128)
    assert torch.allclose(pieces, whole, rtol=0, atol=2e-6)


def test_normalised_with_own_or_measured_statistics() -> None:
    values = torch.full((1, 2, 128), 3.0)
    assert torch.equal(Fbank().normalise(values, Statistics(1.0, 2.0)), torch.full((1, 2, 128), 0.5))
    assert torch.equal(Fbank(4, Statistics(2.0, 0.5)).normalise(values, Statistics(1.0, 2.0)), values - 2.0)
    with pytest.raises(ConfigError, match="fbank-4: no mean and std"):
        Fbank(4).normalise(values, None)


@pytest.mark.parametrize("workers", [1, 2])
def test_clips_keep_their_lengths(clips: list[Path], tmp_path: Path, workers: int) -> None:
    path = tmp_path / "fbank.npy"
    build(clips, Fbank(), path, workers)
    cache = Cache(path)
    assert (len(cache), cache.ragged, cache.frames(4)) == (5, True, 104)
    assert cache.lengths.tolist() == [1, 1, 2, 25, 104]
    assert np.load(offsets_of(path)).tolist() == [0, 1, 2, 4, 29, 133]
    assert np.load(path).shape == (133, 128)
    for row, clip in enumerate(clips):
        assert np.allclose(cache[row], Fbank().read(clip).numpy(), rtol=0, atol=1e-6)
    with pytest.raises(IndexError):
        cache[5]
    write_statistics(path, np.array([4, 1]), tmp_path / "fbank.json")
    values = np.concatenate([cache[4], cache[1]]).astype(np.float64)
    measured = json.loads((tmp_path / "fbank.json").read_text())
    assert measured == pytest.approx({"mean": values.mean(), "std": values.std()}, rel=1e-9)


def test_one_reader_for_clips_of_one_length(clips: list[Path], tmp_path: Path) -> None:
    build(clips, Fbank(30), tmp_path / "fbank-30.npy", 1)
    cache = Cache(tmp_path / "fbank-30.npy")
    assert (len(cache), cache.ragged, cache.lengths.tolist()) == (5, False, 5 * [30])
    assert np.array_equal(cache[3], np.load(tmp_path / "fbank-30.npy")[3])
    assert [path.name for path in tmp_path.iterdir()] == ["fbank-30.npy"]


@pytest.mark.fault("log-mel cache", "offsets of another cache, or none", "one message that names the file")
def test_offsets_that_do_not_fit(clips: list[Path], tmp_path: Path) -> None:
    build(clips, Fbank(), tmp_path / "fbank.npy", 1)
    np.save(offsets_of(tmp_path / "fbank.npy"), np.array([0, 5]))
    with pytest.raises(DataError, match=r"fbank.offsets.npy ends at frame 5, but fbank.npy has 133"):
        Cache(tmp_path / "fbank.npy")
    offsets_of(tmp_path / "fbank.npy").unlink()
    with pytest.raises(DataError, match=r"fbank.offsets.npy is missing or damaged"):
        Cache(tmp_path / "fbank.npy")


@pytest.mark.fault("log-mel cache", "clips of any length that cannot be used", "one report of all; nothing left")
def test_every_bad_clip_is_named(clips: list[Path], tmp_path: Path) -> None:
    soundfile.write(tmp_path / "rate.wav", np.zeros(800), 8000)
    soundfile.write(tmp_path / "short.wav", np.zeros(399), audio.RATE)
    output = tmp_path / "out" / "fbank.npy"
    output.parent.mkdir()
    with pytest.raises(DataError, match=r"3 clips(.|\n)*rate.wav has 8000(.|\n)*short.wav has 399(.|\n)*absent.wav"):
        build([*clips, *(tmp_path / name for name in ("rate.wav", "short.wav", "absent.wav"))], Fbank(), output, 2)
    assert list(output.parent.iterdir()) == []
