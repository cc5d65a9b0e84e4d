"""The log-mel cache: same rows whatever the workers, padding, problems by name."""

import json

import numpy as np
import pytest
import soundfile
import torch

from fungi_audio.audio import read as audio
from fungi_audio.errors import DataError
from fungi_audio.frontends import cache as fbank_cache
from fungi_audio.frontends import kaldi
from fungi_audio.frontends.kaldi import Fbank


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """40 clips of 25 ms to 1.2 s, mono and stereo."""
    folder, random = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    paths = []
    for number in range(40):
        length = 400 if number == 0 else int(random.integers(400, 19_200))
        samples = 0.1 * random.normal(size=(length, 2) if number % 5 == 1 else length)
        paths.append(folder / f"{number:02d}.wav")
        soundfile.write(paths[-1], samples, audio.RATE, subtype="PCM_16")
    return paths


@pytest.fixture
def one_thread():
    """The cache's workers compute on one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_workers_do_not_matter(clips, tmp_path, one_thread):
    for workers in (1, 2):
        fbank_cache.build(clips, Fbank(64), tmp_path / f"{workers}.npy", workers)
    one, two = (fbank_cache.open_array(tmp_path / f"{workers}.npy") for workers in (1, 2))
    assert one.shape == (40, 64, 128)
    assert np.array_equal(one, two)
    for row, path in zip(one, clips, strict=True):
        assert np.array_equal(row, kaldi.Fbank(64).read(path).numpy())


def test_short_clips_are_padded_with_zeros_and_long_ones_cut():
    waveform = torch.randn(8_000)
    short, long = kaldi.cut_or_pad(kaldi.log_mel(waveform), 100), kaldi.cut_or_pad(kaldi.log_mel(waveform), 20)
    assert short.shape == (100, 128)
    assert torch.equal(short[48:], torch.zeros(52, 128))
    assert torch.equal(long, short[:20])
    assert torch.allclose(kaldi.normalise(short, -6.0, 5.0)[48:], torch.tensor(0.6))


def test_stereo_keeps_the_first_channel_minus_the_mean_of_both(tmp_path):
    samples = np.stack([np.linspace(-0.5, 0.5, 800), np.full(800, 0.25)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", samples, audio.RATE, subtype="FLOAT")
    expected = torch.tensor(samples[:, 0] - samples.mean(), dtype=torch.float32)
    assert torch.allclose(audio.read(tmp_path / "stereo.wav"), expected, atol=1e-6)


@pytest.mark.fault("log-mel cache", "clips that cannot be used", "one report of all; nothing left")
def test_every_bad_clip_is_named(clips, tmp_path):
    bad = {"rate.wav": "8000", "short.wav": "399", "noise.wav": "decoded", "absent.wav": "decoded"}
    soundfile.write(tmp_path / "rate.wav", np.zeros(800), 8000)
    soundfile.write(tmp_path / "short.wav", np.zeros(399), audio.RATE)
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    output = tmp_path / "out" / "fbank.npy"
    output.parent.mkdir()
    with pytest.raises(DataError) as caught:
        fbank_cache.build([*clips[:33], *(tmp_path / name for name in bad)], Fbank(64), output, 2)
    assert "4 clips" in str(caught.value)
    for name, reason in bad.items():
        line = next(line for line in str(caught.value).splitlines() if name in line)
        assert reason in line
    assert list(output.parent.iterdir()) == []


def test_statistics_are_those_of_the_training_clips(clips, tmp_path):
    fbank_cache.build(clips, Fbank(32), tmp_path / "fbank.npy", 1)
    rows = np.arange(3, 40, 2)
    fbank_cache.write_statistics(tmp_path / "fbank.npy", rows, tmp_path / "statistics.json")
    measured = json.loads((tmp_path / "statistics.json").read_text())
    values = np.load(tmp_path / "fbank.npy")[rows].astype(np.float64)
    assert measured == pytest.approx({"mean": values.mean(), "std": values.std()}, rel=1e-9)
