"""Masks have the stated count, shape and independence."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fungi_audio.errors import ConfigError
from fungi_audio.models.ssast.definition import Grid, check_masked, maskable
from fungi_audio.models.ssast.masking import masks
from fungi_audio.randomness import uniform

KEYS = torch.tensor([3, 1 << 40, 77, 123456789])


def plain_clusters(grid: Grid, count: int, key: int) -> list[int]:
    """The rule of the paper, one position after the other."""
    numbers = uniform(torch.tensor([key]), 20_000)[0].tolist()
    side, kept = 3 + int(numbers[0] * 3), []
    for number in numbers[1:]:
        start = int(number * math.prod(grid))
        for i in range(side):
            for j in range(side):
                position = start + i * grid.time + j
                if 0 < position < math.prod(grid) and position not in kept:
                    kept.append(position)
        if len(kept) > count:
            break
    return kept[:count]


@pytest.mark.parametrize(("grid", "count"), [(Grid(8, 64), 400), (Grid(8, 64), 250), (Grid(8, 8), 50), (Grid(2, 3), 2)])
def test_clusters_equal_the_plain_rule(grid: Grid, count: int) -> None:
    drawn = masks(grid, count, KEYS)
    assert drawn.tolist() == [plain_clusters(grid, count, int(key)) for key in KEYS]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(2, 40), st.floats(0, 1), st.integers(0, 2**62))
def test_count_range_and_independence(mel: int, time: int, share: float, key: int) -> None:
    grid = Grid(mel, time)
    count = max(1, int(share * maskable(grid)))
    together = masks(grid, count, torch.tensor([5, key, 9]))
    assert together.shape == (3, count)
    assert all(len(set(row)) == count for row in together.tolist())
    assert int(together.min()) >= 0 and int(together.max()) < mel * time
    assert torch.equal(together[1:2], masks(grid, count, torch.tensor([key])))


def test_clusters_are_blocks_and_frames_are_not() -> None:
    """Neighbours are masked together in patch models far more often than by chance."""
    keys = torch.arange(200)

    def neighbours(drawn: torch.Tensor) -> float:
        marked = torch.zeros(200, 512).scatter(1, drawn, 1.0)
        return float((marked[:, 1:] * marked[:, :-1]).sum() / marked.sum())

    assert neighbours(masks(Grid(8, 64), 60, keys)) > 0.6
    assert abs(neighbours(masks(Grid(1, 512), 60, keys)) - 60 / 512) < 0.03


def test_position_0_is_never_in_a_cluster_and_all_others_are() -> None:
    drawn = masks(Grid(8, 8), 30, torch.arange(500))
    assert sorted(set(drawn.flatten().tolist())) == list(range(1, 64))


def test_frames_are_uniform() -> None:
    counts = torch.bincount(masks(Grid(1, 50), 10, torch.arange(5000)).flatten(), minlength=50)
    assert counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize(("grid", "count"), [(Grid(8, 8), 64), (Grid(1, 50), 51)])
def test_more_masked_than_the_grid_has(grid: Grid, count: int) -> None:
    check_masked(grid, count - 1)
    with pytest.raises(ConfigError, match=f"{count} patches is more than the {count - 1}"):
        check_masked(grid, count)
