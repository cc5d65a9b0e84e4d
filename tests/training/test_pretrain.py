"""Pretraining learns, stops and goes on bitwise, works in two processes, and names what is wrong."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fungi_audio.errors import ConfigError, NumericalError
from fungi_audio.models.ssast.definition import PATCHES, Grid
from fungi_audio.models.ssast.network import WIDTHS, build
from fungi_audio.training import resume
from fungi_audio.training.batches import Clips, PretextBatches, hold_out
from fungi_audio.training.definitions import check_pretraining
from fungi_audio.training.distributed import World, launch
from fungi_audio.training.pretrain import Pretraining, pretrain
from fungi_audio.training.schedule import rise

CPU = torch.device("cpu")
SETTINGS = Pretraining(
    datasets=["noise"],
    size="tiny",
    kind="patch",
    target_length=32,
    masked=8,
    objective="joint",
    epochs=2,
    batch_size=4,
    accumulate=1,
    lr=1e-3,
    warmup_steps=20,
    patience=2,
    validation=0.2,
    validate_every=3,
    checkpoint_every=2,
    log_every=2,
    seed=1,
)
STATISTICS = (-6.0, 2.0)


@pytest.fixture
def caches(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path, count in zip(paths, (7, 3), strict=True):
        np.save(path, random.normal(-6, 2, size=(count, 32, 128)).astype(np.float32))
    return paths


ROWS = [np.array([0, 1, 2, 4, 5, 6]), np.arange(3)]


def run(settings: Pretraining, caches: list[Path], state: Path, processes: int = 1, precision: str = "fp32") -> Any:
    return launch([CPU] * processes, pretrain, settings, caches, ROWS, STATISTICS, state, precision)


def test_learns_8_clips_by_heart(tmp_path: Path) -> None:
    cache = tmp_path / "clips.npy"
    np.save(cache, np.random.default_rng(0).normal(-6, 2, size=(9, 32, 128)).astype(np.float32))
    settings = replace(
        SETTINGS,
        objective="mpc",
        batch_size=8,
        epochs=60,
        validation=0.1,
        validate_every=99,
        checkpoint_every=99,
        log_every=10,
    )
    _, curves = pretrain(World(), settings, [cache], [np.arange(9)], STATISTICS, tmp_path / "state.pt", "fp32")
    training = [point for point in curves if point["split"] == "train"]
    assert training[0]["loss"] > 1 and training[-1]["loss"] < 0.1
    assert training[-1]["accuracy"] > 0.95


@pytest.mark.parametrize(("size", "kind"), [("tiny", "frame"), ("small", "patch"), ("base", "frame")])
def test_every_size_and_kind_gives_a_backbone(caches: list[Path], tmp_path: Path, size: str, kind: str) -> None:
    settings = replace(SETTINGS, size=size, kind=kind, epochs=0.5)
    state, curves = run(settings, caches, tmp_path / "state.pt")
    assert all(np.isfinite(point["loss"]) for point in curves)
    backbone = build(state, frames=32)
    assert (backbone.width, backbone.patch) == (WIDTHS[size], PATCHES[kind])


def test_bf16_learns_as_fp32_does(caches: list[Path], tmp_path: Path) -> None:
    _, exact = run(SETTINGS, caches, tmp_path / "fp32.pt")
    state, rounded = run(SETTINGS, caches, tmp_path / "bf16.pt", precision="bf16")
    losses = [[point["loss"] for point in curves] for curves in (exact, rounded)]
    assert losses[1] == pytest.approx(losses[0], rel=0.03) and losses[1] != losses[0]
    assert all(value.dtype == torch.float32 for key, value in state.items() if key.startswith("v."))


def test_a_stopped_run_goes_on_bitwise(caches: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, curves = run(SETTINGS, caches, tmp_path / "whole.pt")
    step, calls = torch.optim.Adam.step, []

    def stops_in_the_third_step(self: Any, closure: Any = None) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return step(self, closure)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Adam, "step", stops_in_the_third_step)
        run(SETTINGS, caches, tmp_path / "state.pt")
    torch.manual_seed(99)
    continued, again = run(SETTINGS, caches, tmp_path / "state.pt")
    assert curves == again
    assert whole.keys() == continued.keys()
    assert all(torch.equal(whole[key], continued[key]) for key in whole)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
def test_a_killed_process_goes_on_bitwise(caches: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=5, checkpoint_every=1)
    state = tmp_path / "state.pt"
    program = (
        "import sys; sys.path[:0] = sys.argv[1:3]; import torch; torch.set_num_threads(1); from pathlib import Path\n"
        "from test_pretrain import *; from dataclasses import replace\n"
        f"run(replace(SETTINGS, epochs=5, checkpoint_every=1), [Path(p) for p in sys.argv[3:5]], Path({str(state)!r}))"
    )
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "scripts")]
    process = subprocess.Popen([sys.executable, "-c", program, *folders, *map(str, caches)], stderr=subprocess.DEVNULL)
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert 0 < torch.load(state, weights_only=True)["step"] < 10
        continued, _ = run(settings, caches, state)
        whole, _ = run(settings, caches, tmp_path / "whole.pt")
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(whole[key], continued[key]) for key in whole)


@pytest.mark.parametrize("validation", [0.2, 0.55])  # 5 clips: of the last batch the second process has none
def test_two_processes_equal_one(caches: list[Path], tmp_path: Path, validation: float) -> None:
    settings = replace(SETTINGS, validation=validation)
    alone, curves = run(settings, caches, tmp_path / "one.pt")
    together, both = run(replace(settings, accumulate=2), caches, tmp_path / "two.pt", processes=2)
    for key, value in alone.items():
        assert torch.allclose(together[key].float(), value.float(), atol=2e-4), key
    assert [point["loss"] for point in both] == pytest.approx([point["loss"] for point in curves], rel=1e-3)


def test_a_plain_script_starts_processes(tmp_path: Path) -> None:
    """Snakemake's scripts have no guard around their work; a process that imports its parent's would run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2] / 'scripts')!r})\n"
        "from operator import attrgetter\nimport torch\nfrom fungi_audio.training.distributed import launch\n"
        "print('ran', launch([torch.device('cpu')] * 2, attrgetter('size')))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "ran 2\n", done.stderr


def test_accumulation_gives_the_same_gradient(caches: list[Path], tmp_path: Path) -> None:
    _, once = run(replace(SETTINGS, epochs=1), caches, tmp_path / "one.pt")
    _, parts = run(replace(SETTINGS, epochs=1, accumulate=4), caches, tmp_path / "four.pt")
    assert [point["loss"] for point in parts] == pytest.approx([point["loss"] for point in once], rel=1e-3)


def test_batches_depend_on_the_seed_and_the_step_alone(caches: list[Path]) -> None:
    clips = Clips(caches, ROWS)
    assert len(clips) == 9
    assert torch.equal(
        clips.log_mels(np.array([8, 3])), torch.from_numpy(np.stack([np.load(caches[1])[2], np.load(caches[0])[4]]))
    )

    def batches(seed: int, world: World = World()) -> PretextBatches:  # noqa: B008
        return PretextBatches(clips, np.arange(9), STATISTICS, Grid(8, 2), 8, ["mpc", "mpg"], 4, 20, world, seed)

    direct = [batches(1)[step] for step in range(3, 6)]
    loaded = list(batches(1).loader(3, workers=1, pinned=False))[:3]
    for (one, masks), (other, others) in zip(direct, loaded, strict=True):
        assert torch.equal(one, other) and torch.equal(masks["mpg"], others["mpg"])
    assert not torch.equal(direct[0][1]["mpc"], direct[0][1]["mpg"])
    assert not torch.equal(direct[0][0], batches(2)[3][0])
    first, second = (batches(1, World(rank, 2))[3] for rank in range(2))
    assert torch.equal(torch.stack([first[0], second[0]], 1).flatten(0, 1), direct[0][0])
    epoch = torch.cat([batches(1)[step][0] for step in range(3)])[:9]
    assert len(torch.unique(epoch[:, 0, 0])) == 9


def test_warm_up_and_halving(caches: list[Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=16, validate_every=2, log_every=1, patience=0, lr=1e-6)
    _, curves = run(settings, caches, tmp_path / "state.pt")
    rates = [float(point["lr"]) * 1e6 for point in curves if point["split"] == "train"]
    assert rates[:20] == pytest.approx([step / 20 for step in range(20)])
    assert rates[-1] in [pytest.approx(0.5**k) for k in range(1, 6)]


@pytest.mark.parametrize("objective", ["mpc", "mpg"])
def test_single_objectives_leave_the_other_head_alone(caches: list[Path], tmp_path: Path, objective: str) -> None:
    other = {"mpc": "gpredlayer", "mpg": "cpredlayer"}[objective]
    settings = replace(SETTINGS, objective=objective, epochs=1)
    state, curves = run(settings, caches, tmp_path / "state.pt")
    same, _ = run(replace(settings, lr=2e-3), caches, tmp_path / "other.pt")
    assert all(torch.equal(state[key], same[key]) for key in state if other in key)
    assert not torch.equal(state["mask_embed"], same["mask_embed"])
    assert ("accuracy" in curves[0]) == (objective == "mpc")


@pytest.mark.parametrize("steps", [1, 5, 30, 1000])
def test_warm_up_takes_the_steps_it_is_given(steps: int) -> None:
    rates = [rise(step, steps) for step in range(steps + 2)]
    assert rates[0] == 0 and rates[steps:] == [1, 1] and max(rates[:steps]) < 1
    assert all(0 <= later - earlier <= max(1 / 20, 1 / steps) + 1e-9 for earlier, later in pairwise(rates))
    assert steps != 1000 or rates[:1000] == [step // 50 / 20 for step in range(1000)]  # the published code's
    assert rise(0, 0) == 1


def test_a_state_of_other_clips(caches: list[Path], tmp_path: Path) -> None:
    run(replace(SETTINGS, epochs=1), caches, tmp_path / "state.pt")
    others = [ROWS[0], np.array([0, 1, 2])[::-1].copy()]
    with pytest.raises(ConfigError, match="rows was"):
        launch([CPU], pretrain, replace(SETTINGS, epochs=1), caches, others, STATISTICS, tmp_path / "state.pt", "fp32")


def test_a_state_of_another_configuration(caches: list[Path], tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    run(SETTINGS, caches, state)
    before = state.read_bytes()
    with pytest.raises(ConfigError, match=r"lr was 0\.001 and is 0\.5.*delete the file"):
        run(replace(SETTINGS, lr=0.5), caches, state)
    assert state.read_bytes() == before


def test_a_loss_that_is_nan_keeps_the_last_good_state(caches: list[Path], tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    settings = replace(SETTINGS, checkpoint_every=3)
    run(settings, caches, state)
    step = torch.load(state, weights_only=True)["step"]
    broken = np.load(caches[0])
    broken[:] = np.nan
    np.save(caches[0], broken)
    with pytest.raises(NumericalError, match="the last good state stays"):
        run(settings, caches, state)
    assert torch.load(state, weights_only=True)["step"] == step == 3


@pytest.mark.parametrize("objective", ["mpc", "mpg"])
def test_weights_that_went_wrong_are_not_published(caches: list[Path], tmp_path: Path, objective: str) -> None:
    """One step at an absurd rate: the loss before it is finite; MPC's accuracy is a number even after it."""
    settings = replace(SETTINGS, objective=objective, epochs=0.5, warmup_steps=0, lr=1e20, checkpoint_every=1)
    with pytest.raises(NumericalError, match="the loss became NaN or infinite"):
        run(settings, caches, tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists()


def test_a_damaged_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    resume.save(path, {}, {"step": 1})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(Exception, match=r"damaged.*Delete it to start anew"):
        resume.load(path, {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masked": 16}, "16 patches is more than the 15"),
        ({"stride": [10, 10]}, r"stride \[10, 10\] differs from the patch \[16, 16\]"),
        ({"target_length": 15}, "less than one 16 x 16 patch"),
        ({"accumulate": 3}, "not a multiple of accumulate"),
        ({"batch_size": 1}, "batch_size 1 is less than the 2 GPUs"),
    ],
)
def test_settings_that_contradict_each_other(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_pretraining(asdict(replace(SETTINGS, **change)), gpus=2)


def test_hold_out_needs_two_clips() -> None:
    training, validation = hold_out(10, 0.2, seed=1)
    assert sorted([*training, *validation]) == list(range(10)) and len(validation) == 2
    with pytest.raises(ConfigError, match="cannot be split"):
        hold_out(1, 0.2, seed=1)
