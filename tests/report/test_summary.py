"""What a person sees at the end of a run."""

import os
import time
from pathlib import Path

import pytest

from fungi_audio.files import whole as files
from fungi_audio.files.provenance import write_record
from fungi_audio.report import summary
from tests.tools.workflow import Workflow

ROOT = Path(__file__).parents[2]


def test_failure_says_which_job_why_and_where(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "index.log", tmp_path / "encode.log"
    ours.write_text("2026-11-20 10:00:00,1 ERROR index: dog.wav is empty; remove it\nline two\n")
    theirs.write_text("2026-11-20 10:00:00,1 ERROR encode failed\nTraceback (most recent call last):\nMemoryError: x\n")
    said = summary.failure({"index demo": [str(ours)], "encode 1": [str(theirs)], "map": ["absent.log"]}, ["main.log"])
    assert "3 jobs failed" in said and "index demo: dog.wav is empty; remove it" in said
    assert "encode 1: MemoryError: x" in said and str(theirs) in said and "left no word" in said


def test_a_job_that_was_killed_did_not_tell_why(tmp_path: Path) -> None:
    log = tmp_path / "encode.log"
    last = "2026-11-20 10:00:00,1 INFO encode: 640 of 2000 clips"
    log.write_text(f"{last}\n\n")
    said = summary.reason([str(log)])
    assert said == f"stopped before its end (memory, run time or cancelled?); last line: {last}"
    log.write_text("")
    assert "left no word" in summary.reason([str(log)])


def test_of_a_group_those_failed_that_began_and_did_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done, killed, again, never = (f"logs/evaluate/{name}.log" for name in ("done", "killed", "again", "never"))
    for log in (done, killed, again):
        files.write_text(log, "INFO evaluate\n")
    files.write_text(never, "")
    for log in (done, again):
        write_record(Path(log), rule="evaluate")
    os.utime(again, (time.time() + 5,) * 2)  # its record is of an earlier run
    assert summary.stopped([done, killed, again, never]) == [killed, again]
    assert summary.stopped([never]) == [never]
    assert summary.stopped([done]) == [done]


def test_duration() -> None:
    assert [summary.duration(s) for s in (41.4, 130, 7500)] == ["41 s", "2 min 10 s", "2 h 05 min"]


def test_a_failed_run_ends_with_its_reason(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    config = {
        "run": {"datasets": ["mine"], "backbones": ["demo-tiny"], "features": ["embedding"]},
        "datasets": {"mine": {"layout": "esc50", "source": str(empty), "target_length": 64, "folds": [1], "clips": 9}},
    }
    done = Workflow(tmp_path / "work", config).snakemake("results/mine/clips.parquet", check=False)
    assert done.returncode
    assert "1 job failed.\n\n  index mine: " in done.stdout and "log: logs/index/mine.log" in done.stdout
