"""The cost model, and plans made with it."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from benchmarks.makespan import Job, dependents, longest_paths, makespan, plan
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fungi_audio.models.ssast.definition import Patches, shape, trunk
from fungi_audio.models.ssast.network import build, random_state
from fungi_audio.run import cost
from fungi_audio.run.cluster import UNLIMITED, Request, largest, longest

ROOT = Path(__file__).parents[2]
AUDIOSET = {"clips": 2_084_320, "target_length": 1024}
datasets = st.fixed_dictionaries({"clips": st.integers(1, 5_000_000), "target_length": st.integers(16, 2048)})


@pytest.mark.parametrize(
    ("frames", "shape", "count"),
    [
        (512, cost.BASE, 12 * 50 + 2),
        (1024, trunk(768, (16, 16), (16, 16)), 8 * 64 + 2),
        (128, trunk(768, (128, 2), (128, 1)), 127 + 2),
    ],
)
def test_tokens_of_ssast(frames: int, shape: Patches, count: int) -> None:
    assert shape.tokens(frames / 100) == count


def test_tokens_and_flops_are_those_of_the_real_network() -> None:
    tiny = shape({}, "random:tiny-patch")
    network = build(random_state("tiny-patch", seed=0), frames=256)
    assert network.pos_embed.shape[1] == tiny.tokens(2.56)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.hidden(network.patch_embed(torch.zeros(1, 256, 128)))
    assert tiny.forward_flops(2.56) == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_base_encode_job_takes_about_twenty_minutes() -> None:
    count = cost.shards(AUDIOSET, 17)
    seconds = cost.encode_seconds(AUDIOSET["clips"] / count, 17, 10.24, cost.BASE, cost.SHARD_TFLOPS * 1e12)
    assert seconds == pytest.approx(20 * 60, rel=0.02)
    assert cost.minutes(seconds) * 60 >= cost.SAFETY * seconds


def test_what_the_definition_says_goes_first() -> None:
    assert cost.shards(AUDIOSET | {"shards": 3}, 17) == 3
    assert cost.shards({"target_length": 1024}, 17) == 1
    assert cost.shards(AUDIOSET | {"shards": None}, 17) == cost.shards(AUDIOSET, 17)


@given(datasets, st.integers(1, 32))
def test_no_shard_is_too_long_or_too_large(dataset: dict[str, int], views: int) -> None:
    count = cost.shards(dataset, views)
    clips = dataset["clips"] / count
    rate = cost.SHARD_TFLOPS * 1e12
    seconds = cost.clip_seconds(dataset)
    assert cost.encode_seconds(clips, views, seconds, cost.BASE, rate) <= cost.SHARD_SECONDS * 1.001
    assert cost.activation_bytes(clips, views, cost.BASE) <= cost.SHARD_GB * 1.001e9
    assert cost.shards(dataset, views + 1) >= count
    assert cost.shards(dataset | {"clips": dataset["clips"] * 2}, views) >= count


def test_sizes_come_from_the_name() -> None:
    assert shape({}, "ssast-tiny-frame-400") == trunk(192, (128, 2), (128, 1), stored=4 * 192)
    assert shape({}, "mine.pth") == cost.BASE
    assert shape({"stride": [16, 16]}, "ssast-small-patch-400").stride == (16, 16)
    assert shape({"pooling": "avg"}, "mine.pth").stored == 0


def test_clips_are_as_long_as_the_definition_says() -> None:
    assert cost.clip_seconds({"target_length": 512, "seconds": 3}) == 5.12
    assert cost.clip_seconds({"seconds": 3}) == 3 and cost.clip_seconds({}) == cost.UNKNOWN_SECONDS


def test_device_and_attempts() -> None:
    site = {"gpu_tflops": 60, "cpu_gflops": 40}
    assert cost.rate(site, "auto") == cost.rate(site, "cuda", cores=8) == 60e12
    assert cost.rate(site, "cpu", cores=8) == 320e9
    assert cost.minutes(0) == cost.LOWEST_MINUTES
    assert [cost.minutes(3600, attempt) for attempt in (1, 2, 3)] == [182, 364, 546]


def test_a_job_among_others_starts_nothing_but_itself() -> None:
    assert cost.minutes(0, shared=True) == cost.LOWEST_SHARED_MINUTES < cost.LOWEST_MINUTES
    assert [cost.minutes(100, attempt, shared=True) for attempt in (1, 2)] == [5, 10]


def test_several_partitions_allow_what_the_most_patient_one_does() -> None:
    limits = {"": 60, "gpu": 60, "long": 600}
    asked = (None, "gpu", "gpu,long", "long, gpu", "unknown")
    assert [longest(name, limits) for name in asked] == [60, 60, 600, 600, UNLIMITED]


def test_the_first_of_several_accounts_is_charged() -> None:
    assert "--account=first" in Request("table", account="first,second").options()


def test_steps_over_files_grow_with_the_dataset() -> None:
    assert cost.step_seconds("resample", 2000, cores=8) == 2000 * 0.02 / 8
    small, audioset = (cost.step_mb(clips, cores=8) for clips in (2000, AUDIOSET["clips"]))
    assert small < 1.5 * cost.PYTHON_MB and 6000 < audioset < 8000
    assert cost.inputs_mb(AUDIOSET["clips"], 10.24, 12_800, 8) > audioset


def test_memory_of_a_training_grows_with_all_that_it_holds() -> None:
    def mb(width: int = 192, batch: int = 8, processes: int = 1, kept: int = 0) -> int:
        return cost.training_mb(trunk(width, (16, 16), (10, 10)), 5.12, batch, processes, kept)

    assert cost.TORCH_MB < mb() < mb(width=768) < mb(width=768, batch=48) < mb(width=768, batch=48, kept=48)
    assert mb(processes=4) > 3 * mb()


def test_each_size_of_a_rule_is_asked_for_at_its_largest() -> None:
    jobs = [Request("encode", "gpu", gpus=1, mem_mb=mb, minutes=60 - mb) for mb in (10, 20)]
    assert largest([*jobs, Request("table")]) == [
        Request("encode", "gpu", gpus=1, mem_mb=20, minutes=50),
        Request("table"),
    ]


@pytest.fixture(scope="module")
def demo() -> list[Job]:
    return plan(ROOT / "config.yaml", start=0)


def test_the_demo_takes_few_rounds_of_slurm_jobs(demo: list[Job]) -> None:
    local = {"plan", "datafiles", "table", "report", "all"}  # the tests on Slurm see that nothing of it is submitted
    shared: dict[object, list[Job]] = {}
    for job in demo:
        shared.setdefault(job.group or job, []).append(job)
    rounds = []
    for jobs in shared.values():
        made = {file for job in jobs for file in job.outputs}
        needed = {file for job in jobs for file in job.inputs} - made
        rounds.append(Job(jobs[0].rule, tuple(needed), tuple(made), float(jobs[0].rule not in local), 0))
    assert max(longest_paths(rounds, *dependents(rounds))) <= 6
    assert sum(job.seconds for job in rounds) <= 20


def test_requests_follow_the_definitions(tmp_path: Path) -> None:
    """Of GPUs, passes and sizes: four GPUs train in a quarter of the time, a larger backbone trains longer."""
    change = {
        "run": {"features": ["embedding", "mpc"], "embeddings": ["pool"], "finetune": ["tuned"], "transfer": ["there"]},
        "datasets": {"demo": {"clips": 100_000}},
        "features": {"mpc": {"objective": "mpc", "masks": 200}},
        "pretrain": {"demo": {"epochs": 1000}},
        "finetune": {"tuned": {"dataset": "demo", "backbone": "demo-tiny"}},
        "embeddings": {"pool": {"model": "demo-tiny", "dataset": "demo"}},
        "transfer": {"there": {"checkpoint": "finetune:tuned/1", "dataset": "demo"}},
    }
    seconds = {}
    for gpus in (1, 4):
        path = tmp_path / f"{gpus}.yaml"
        path.write_text(yaml.safe_dump(change | {"cluster": {"training_gpus": gpus}}))
        jobs = plan(path, start=0)
        (training,) = (job for job in jobs if job.rule == "pretrain")
        assert training.gpus == gpus
        seconds[gpus] = training.seconds
    assert seconds[4] == pytest.approx(seconds[1] / 4, rel=0.1)
    larger = tmp_path / "base.yaml"
    larger.write_text(yaml.safe_dump(change | {"pretrain": {"demo": {"size": "base"}}}))
    tiny, base = (sum(job.seconds for job in run if job.rule == "finetune") for run in (jobs, plan(larger, start=0)))
    assert base > 2 * tiny
    passes = {"clips": 100_000, "target_length": 128}
    parts = sum("mpc" in str(job.outputs) for job in jobs if job.rule == "feature")
    assert parts == cost.shards(passes, 200) > cost.shards(passes, 1)
    longest = {rule: max(job.seconds for job in jobs if job.rule == rule) for rule in ("embeddings", "transfer")}
    assert all(60 < seconds < 3600 for seconds in longest.values())


def test_simulated_clusters() -> None:
    jobs = [Job("encode", (), (f"{n}",), 10.0, 1) for n in range(8)] + [Job("table", tuple("01234567"), ("t",), 5.0, 0)]
    assert [makespan(jobs, gpus) for gpus in (1, 3, 8, 64)] == [85, 35, 15, 15]


def test_audioset_is_planned_in_a_minute_and_little_memory(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "--cores", "1", "--directory", str(tmp_path)]
    command += [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(ROOT / "tests" / "cluster" / "audioset.yaml"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 60
    assert after.ru_maxrss < 4_000_000  # kB; the largest child so far
