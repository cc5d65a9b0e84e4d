"""Rows of a feature survive the death of their job."""

import os
import signal
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from fungi_audio.errors import StorageError
from fungi_audio.files import unfinished

ALL = np.arange(40, dtype=np.float32).reshape(10, 4)


def chunks(start: int, dies_at: int = 10) -> Iterator[np.ndarray]:
    for first in range(start, 10, 2):
        if first >= dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        yield ALL[first : first + 2]


def work(path: Path, dies_at: int) -> None:
    with unfinished.rows(path, 4, "key") as rows:
        rows.extend(chunks(rows.done, dies_at))


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The output of a job that was killed in its fourth chunk."""
    child = get_context("spawn").Process(target=work, args=(tmp_path / "part.parquet", 6))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    return tmp_path / "part.parquet"


@pytest.mark.fault("gradients", "killed (SIGKILL) in the fourth chunk", "three chunks kept, the same numbers")
@pytest.mark.parametrize("torn", [b"", b"half a row"])
def test_a_killed_job_goes_on_after_the_last_whole_row(killed: Path, torn: bytes) -> None:
    (left,) = killed.parent.iterdir()
    left.write_bytes(left.read_bytes() + torn)
    with unfinished.rows(killed, 4, "key") as rows:
        assert rows.done == 6
        assert (rows.extend(chunks(rows.done)) == ALL).all()
    assert not list(killed.parent.iterdir())


@pytest.mark.fault("gradients", "killed, then run with other settings", "starts afresh")
def test_other_settings_start_afresh(killed: Path) -> None:
    with unfinished.rows(killed, 4, "other") as rows:
        assert rows.done == 0
        assert (rows.extend(chunks(0)) == ALL).all()
    assert not list(killed.parent.iterdir())


def test_what_fails_afterwards_loses_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), unfinished.rows(tmp_path / "x", 4, "key") as rows:
        rows.extend(chunks(0))
        1 / 0  # noqa: B018
    with unfinished.rows(tmp_path / "x", 4, "key") as rows:
        assert rows.done == 10
        assert (rows.extend(chunks(10)) == ALL).all()


@pytest.mark.fault("gradients", "disk full", "one message with the file and what to do; what was finished stays")
def test_disk_full(small_disk: Path) -> None:
    with pytest.raises(StorageError, match="no space left"), unfinished.rows(small_disk / "x", 4, "key") as rows:
        rows.extend(np.zeros((1 << 12, 4), np.float32) for _ in range(1 << 10))
    with unfinished.rows(small_disk / "x", 4, "key") as rows:
        assert rows.done >= 1 << 12
        rows.extend([])
