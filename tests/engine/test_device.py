"""Local jobs get different GPUs, and wait when all are taken."""

import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fungi_audio.engine import device
from fungi_audio.errors import ConfigError

spawn = multiprocessing.get_context("spawn")


def _work(diary: Path, count: int) -> None:
    """A job of `count` GPUs on a machine whose GPUs are those that CUDA_VISIBLE_DEVICES lists."""
    names = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    torch.cuda.device_count = lambda: len(names)
    torch.cuda.get_device_properties = lambda index: SimpleNamespace(uuid=names[index])  # type: ignore[assignment,return-value]
    torch.cuda.set_device = lambda index: None
    device.POLL_SECONDS = 0.05
    with device.claim_several("auto", count) as claimed:
        start = time.time()
        time.sleep(0.5)
        with diary.open("a") as file:
            file.writelines(f"{names[one.index]} {start} {time.time()}\n" for one in claimed if one.type == "cuda")


def _run(
    diary: Path, monkeypatch: pytest.MonkeyPatch, visible: list[str], count: int = 1
) -> list[tuple[str, float, float]]:
    monkeypatch.setenv("TMPDIR", str(diary.parent))
    jobs = []
    for devices in visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
        jobs.append(spawn.Process(target=_work, args=(diary, count)))
        jobs[-1].start()
    for job in jobs:
        job.join(120)
        if job.exitcode is None:
            job.kill()
    rows = [line.split() for line in diary.read_text().splitlines()]
    return [(name, float(start), float(end)) for name, start, end in rows]


def test_two_gpus_serve_three_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _run(tmp_path / "diary", monkeypatch, ["2,3"] * 3)
    assert len(jobs) == 3
    assert {name for name, _, _ in jobs} <= {"2", "3"}
    assert_alone(jobs)


def test_trainings_on_both_gpus_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = _run(tmp_path / "diary", monkeypatch, ["2,3", "3,2", "2,3"], count=2)
    assert sorted(name for name, _, _ in jobs) == ["2"] * 3 + ["3"] * 3
    assert_alone(jobs)


def test_who_waits_for_two_holds_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(device, "POLL_SECONDS", 0.01)

    def take_both() -> list[int]:
        with device.free(["a", "b"], 2) as taken:
            return taken

    with ThreadPoolExecutor(1) as pool:
        with device.free(["a"]):
            waiting = pool.submit(take_both)
            for _ in range(10):
                time.sleep(0.02)
                with device.free(["b", "c"]) as other:
                    assert other == [0] and not waiting.done()
        assert waiting.result(10) == [0, 1]


def assert_alone(jobs: list[tuple[str, float, float]]) -> None:
    """No GPU was used by two at once."""
    for i, (name, start, end) in enumerate(jobs):
        for other, other_start, other_end in jobs[i + 1 :]:
            assert name != other or end <= other_start or other_end <= start


def test_jobs_at_once_get_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with device.free(["a", "b"]) as first, device.free(["a", "b"]) as second:
        assert first + second == [0, 1]
    with device.free(["b"]), device.free(["a", "b"]) as again, device.free(["c", "b"]) as other:
        assert again + other == [0, 0]
    with device.free(["b"]), device.free(["b", "a"]) as second:
        assert second == [1]


def test_cpu_and_missing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    for name in ("auto", "cpu"):
        with device.claim(name) as claimed:
            assert claimed == torch.device("cpu")
    with pytest.raises(ConfigError, match="device is cuda"), device.claim("cuda"):
        pass
