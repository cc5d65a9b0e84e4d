"""One writer at a time: processes on one host, a killed owner, an owner on another host."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from fungi_audio.errors import StorageError
from fungi_audio.files import locks
from fungi_audio.files.locks import only_writer

spawn = multiprocessing.get_context("spawn")


def _append(lock: Path, diary: Path, name: str, seconds: float) -> None:
    locks.POLL_SECONDS = 0.02
    with only_writer(lock):
        for word in ("start", "end"):
            with diary.open("a") as file:
                file.write(f"{name} {word}\n")
            time.sleep(seconds)


def _started(diary: Path) -> None:
    deadline = time.monotonic() + 30
    while not diary.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_writers_take_turns_and_leave_nothing(tmp_path: Path) -> None:
    lock, diary = tmp_path / "job.lock", tmp_path / "diary"
    writers = [spawn.Process(target=_append, args=(lock, diary, str(n), 0.1)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    lines = [line.split() for line in diary.read_text().splitlines()]
    assert [word for _, word in lines] == ["start", "end"] * 4
    assert all(first[0] == second[0] for first, second in zip(lines[::2], lines[1::2], strict=True))
    assert not lock.exists()


@pytest.mark.fault("locks", "the owner of a lock is killed", "free at once")
def test_lock_of_a_killed_owner_is_free(tmp_path: Path) -> None:
    lock, diary = tmp_path / "job.lock", tmp_path / "diary"
    owner = spawn.Process(target=_append, args=(lock, diary, "owner", 60))
    owner.start()
    _started(diary)
    os.kill(owner.pid or 0, signal.SIGKILL)
    owner.join()
    assert json.loads(lock.read_text())["pid"] == str(owner.pid)
    start = time.monotonic()
    with only_writer(lock):
        assert json.loads(lock.read_text())["pid"] == str(os.getpid())
    assert time.monotonic() - start < 1


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose shell code is what squeue does."""
    tool = tmp_path / "bin" / "squeue"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)
    return tool


def _left_by(lock: Path, host: str, job: str) -> None:
    lock.write_text(json.dumps({"host": host, "pid": "1", "slurm": job}))


@pytest.mark.fault("locks", "the owner runs on another host", "waited for")
def test_job_on_another_host_keeps_the_lock_until_slurm_forgets_it(tmp_path: Path, squeue: Path) -> None:
    lock, asked = tmp_path / "job.lock", tmp_path / "asked"
    _left_by(lock, "node7", "123")
    squeue.write_text(f'#!/bin/sh\necho "$@" >> {asked}\n[ $(wc -l < {asked}) -ge 3 ] || echo RUNNING\n')
    with only_writer(lock):
        pass
    assert asked.read_text().count("-j 123") == 3


def test_forgotten_job_and_requeued_self_are_free(
    tmp_path: Path, squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue.write_text('#!/bin/sh\necho "slurm_load_jobs error: Invalid job id specified" >&2; exit 1\n')
    _left_by(tmp_path / "job.lock", "node7", "123")
    with only_writer(tmp_path / "job.lock"):
        pass
    squeue.write_text("#!/bin/sh\necho RUNNING\n")
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    _left_by(tmp_path / "job.lock", "node7", "123")
    with only_writer(tmp_path / "job.lock"):
        pass


def test_silent_slurm_is_not_taken_for_a_no(tmp_path: Path, squeue: Path) -> None:
    squeue.write_text('#!/bin/sh\necho "Unable to contact slurm controller" >&2; exit 1\n')
    _left_by(tmp_path / "job.lock", "node7", "123")
    with pytest.raises(StorageError, match=r"123 on node7.*Unable to contact"), only_writer(tmp_path / "job.lock"):
        pass
