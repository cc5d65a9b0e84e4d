"""Views: noise U * r with r in [0, 0.1), rolls in [-10, 9], each a function of its key alone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fungi_audio.frontends.views import noise_and_roll, view_keys
from fungi_audio.randomness import uniform

FRAMES, MEL = 40, 16


@pytest.fixture(scope="module")
def keys() -> torch.Tensor:
    return view_keys(7, "view", [f"clip {i}" for i in range(500)], range(4))


@pytest.fixture(scope="module")
def ramp(keys) -> torch.Tensor:
    """Views of a clip whose frames count 0, 1, 2, …: the whole part tells the roll, the rest is the noise."""
    frames = torch.arange(FRAMES, dtype=torch.float32).view(1, FRAMES, 1).expand(len(keys), FRAMES, MEL)
    return noise_and_roll(frames, keys)


def test_rolls_are_whole_and_uniform(ramp):
    first = ramp[:, 0, 0].floor().long()
    assert torch.equal(ramp.floor()[:, :, 0].long(), (first.unsqueeze(1) + torch.arange(FRAMES)) % FRAMES)
    rolls = (-first + FRAMES // 2) % FRAMES - FRAMES // 2
    assert (int(rolls.min()), int(rolls.max())) == (-10, 9)
    assert stats.chisquare(torch.bincount(rolls + 10).numpy()).pvalue > 1e-3


def test_noise_is_uniform_below_a_uniform_level(ramp):
    noise = (ramp - ramp.floor()).flatten(1)
    level = noise.max(1).values
    assert noise.min() >= 0
    assert level.max() < 0.1
    assert stats.kstest(level.numpy() / 0.1, "uniform").pvalue > 1e-3
    shares = (noise / level.unsqueeze(1))[level > 0.01]
    assert stats.kstest(shares.flatten().numpy()[::50], "uniform").pvalue > 1e-3


def test_numbers_are_uncorrelated_within_and_between_keys(keys):
    numbers = uniform(keys[:64], 4096).double() - 0.5
    neighbours = (numbers[:, 1:] * numbers[:, :-1]).mean() * 12
    between = torch.corrcoef(numbers)
    between.fill_diagonal_(0)
    assert abs(neighbours) < 5 / (64 * 4096) ** 0.5
    assert between.abs().max() < 6 / 4096**0.5


def test_keys_differ_by_seed_stream_clip_and_view():
    sets = [
        view_keys(seed, stream, ["a", "b"], range(3)).tolist() for seed in (1, 2) for stream in ("view", "comparison")
    ]
    assert len({key for keys in sets for key in keys}) == 4 * 6
    assert view_keys(1, "view", ["b"], range(2)).tolist() == sets[0][3:5]


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.integers(1, FRAMES * MEL))
def test_a_view_depends_on_its_key_alone(chosen, count):
    keys = view_keys(3, "view", ["a", "b"], range(4))
    fbank = torch.from_numpy(np.random.default_rng(0).normal(size=(8, FRAMES, MEL)).astype(np.float32))
    assert torch.equal(noise_and_roll(fbank[chosen], keys[chosen]), noise_and_roll(fbank, keys)[chosen])
    assert torch.equal(uniform(keys, count), uniform(keys, FRAMES * MEL)[:, :count])
