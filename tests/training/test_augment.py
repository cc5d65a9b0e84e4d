"""Augmentations against torchaudio's, and their independence of the batch."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio

from fungi_audio.frontends import kaldi
from fungi_audio.training.augment import WaveformAugmentation, mix, spec_augment
from fungi_audio.training.distributed import World
from fungi_audio.training.examples import Examples, balance

PLAIN = {
    "batch_size": 4,
    "freq_mask": 0,
    "time_mask": 0,
    "noise": False,
    "mixup": 0.0,
    "augment": {},
    "balanced": False,
}
NAMES = ["time_shift", "speed", "stretch", "pitch_shift", "gain", "gaussian_noise"]


def tone(seconds: float, frequency: float) -> torch.Tensor:
    return 0.5 * torch.sin(2 * torch.pi * frequency * torch.arange(int(16_000 * seconds)) / 16_000)


def test_spec_augment_masks_one_band_of_each_axis() -> None:
    fbank = torch.full((400, 60, 128), -5.0)
    masked = spec_augment(fbank, 24, 20, torch.arange(400)) == 0
    mel, time = masked.all(dim=1).sum(1), masked.all(dim=2).sum(1)
    for widths, widest in ((mel, 24), (time, 20)):
        assert widths.min() == 0 and widths.max() == widest - 1
    for row in masked.all(dim=1):
        assert (row.int().diff().abs().sum() + row[0] + row[-1]) <= 2
    theirs = torchaudio.transforms.FrequencyMasking(24)
    widths = [(theirs(torch.full((1, 128, 60), -5.0)) == 0).all(2).sum() for _ in range(400)]
    assert float(mel.float().mean()) == pytest.approx(float(torch.stack(widths).float().mean()), abs=1.5)
    assert torch.equal(
        spec_augment(fbank[:2], 24, 20, torch.tensor([7, 3]))[0], spec_augment(fbank, 24, 20, torch.arange(400))[7]
    )
    assert torch.equal(spec_augment(fbank, 0, 0, torch.arange(400)), fbank)


def test_mix_pads_and_cuts() -> None:
    long, short = torch.randn(1000) + 1, torch.randn(600)
    for first, second in ((long, short), (short, long)):
        mixed = mix(first, second, 0.7)
        assert len(mixed) == len(first) and abs(float(mixed.mean())) < 1e-6
    expected = 0.7 * long[:600] + 0.3 * short
    assert torch.allclose(mix(long, short, 0.7)[:600].diff(), expected.diff(), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_each_waveform_augmentation_changes_and_repeats(name: str) -> None:
    change, waveform = WaveformAugmentation({name: 1.0}), tone(0.5, 440)
    before = random.random(), np.random.rand(), random.getstate()
    changed = change(waveform, 5)
    assert random.getstate() == before[2]
    assert changed.dtype == torch.float32 and len(changed) >= 400
    assert changed.shape != waveform.shape or not torch.allclose(changed, waveform, atol=1e-3)
    assert torch.equal(changed, change(waveform, 5))
    other = change(waveform, 6)
    assert changed.shape != other.shape or not torch.equal(changed, other)


def test_speed_moves_the_pitch_and_stretch_does_not() -> None:
    def pitch(waveform: torch.Tensor) -> float:
        return float(torch.fft.rfft(waveform).abs().argmax() * 16_000 / len(waveform))

    waveform = tone(1, 1000)
    speeds = [pitch(WaveformAugmentation({"speed": 1.0})(waveform, seed)) for seed in range(6)]
    assert max(speeds) - min(speeds) > 30 and all(890 < p < 1120 for p in speeds)
    assert all(abs(pitch(WaveformAugmentation({"stretch": 1.0})(waveform, seed)) - 1000) < 15 for seed in range(3))


@pytest.fixture
def clips(tmp_path: Path) -> tuple[np.ndarray, list[Path], np.ndarray]:
    wavs = []
    for i in range(6):
        wavs.append(tmp_path / f"{i}.wav")
        soundfile.write(wavs[-1], tone(0.4, 300 + 100 * i).numpy(), 16_000, subtype="PCM_16")
    fbank = np.stack([kaldi.Fbank(32).read(path).numpy() for path in wavs])
    return fbank, wavs, np.eye(3, dtype=bool)[[0, 1, 2, 0, 1, 2]]


def examples(
    clips: tuple[np.ndarray, list[Path], np.ndarray], seed: int = 1, rank: int = 0, size: int = 1, **settings: Any
) -> Examples:
    return Examples(*clips, np.arange(6), (-6.0, 2.0), PLAIN | settings, epochs=3, seed=seed, world=World(rank, size))


def test_plain_examples_are_the_cache_in_another_order(clips: tuple[np.ndarray, list[Path], np.ndarray]) -> None:
    data = examples(clips)
    assert len(data) == 6
    first, second = data[2], data[3]
    assert len(first[0]) == 4 and len(second[0]) == 2
    fbank = torch.cat([first[0], second[0]]) * 4 - 6
    order = data.order(1)
    assert sorted(order.tolist()) == list(range(6))
    assert torch.allclose(fbank, torch.from_numpy(clips[0][order]), atol=1e-5)
    assert torch.equal(torch.cat([first[1], second[1]]), torch.from_numpy(clips[2][order]).float())


@pytest.mark.parametrize(
    "settings",
    [{"freq_mask": 24, "time_mask": 8, "noise": True}, {"mixup": 0.7}, {"augment": {"gain": 0.5, "speed": 0.5}}],
)
def test_examples_depend_on_the_seed_and_the_step_alone(
    clips: tuple[np.ndarray, list[Path], np.ndarray], settings: dict[str, Any]
) -> None:
    direct = [examples(clips, **settings)[step] for step in (2, 3)]
    loaded = list(examples(clips, **settings).loader(2, workers=1, pinned=False))[:2]
    for (one, labels), (other, others) in zip(direct, loaded, strict=True):
        assert torch.equal(one, other) and torch.equal(labels, others)
    assert not torch.equal(direct[0][0], examples(clips, seed=2, **settings)[2][0])


@pytest.mark.parametrize("settings", [{"noise": True, "freq_mask": 24}, {"mixup": 0.7}, {"balanced": True}])
def test_processes_share_what_one_would_see(
    clips: tuple[np.ndarray, list[Path], np.ndarray], settings: dict[str, Any]
) -> None:
    """Batches of 4 and 2 clips: of the second, the third process has a clip that does not count."""
    alone, several = examples(clips, **settings), [examples(clips, rank=r, size=3, **settings) for r in range(3)]
    for step in (2, 3):
        for batch, parts in zip(alone[step], zip(*(data[step] for data in several), strict=True), strict=True):
            for rank, part in enumerate(parts):
                own = part[: len(several[rank].share(step))]
                assert torch.equal(own, batch[rank::3]) and len(part) > 0
    assert [len(data.share(3)) for data in several] == [1, 1, 0]


def test_mixup_mixes_labels_with_the_sound(clips: tuple[np.ndarray, list[Path], np.ndarray]) -> None:
    labels = torch.cat([examples(clips, mixup=1.0)[step][1] for step in range(6)])
    assert torch.allclose(labels.sum(1), torch.ones(18))
    shares = labels.max(1).values
    assert ((shares > 0.5) & (shares < 0.95)).sum() > 6


def test_audio_and_cache_give_the_same_examples(clips: tuple[np.ndarray, list[Path], np.ndarray]) -> None:
    data, heard = examples(clips), examples(clips)
    heard.from_audio = True
    assert torch.allclose(data[0][0], heard[0][0], atol=1e-4)


def test_balanced_sampling_evens_out_classes(clips: tuple[np.ndarray, list[Path], np.ndarray]) -> None:
    targets = np.eye(2, dtype=bool)[[0] * 90 + [1] * 10]
    weights = balance(targets)
    assert weights[:90].sum() == pytest.approx(weights[90:].sum())
    rare = (clips[0], clips[1], np.eye(2, dtype=bool)[[0, 0, 0, 0, 0, 1]])
    drawn = np.concatenate([examples(rare, balanced=True, seed=seed).order(0) for seed in range(100)])
    assert 0.4 < (drawn == 5).mean() < 0.6
