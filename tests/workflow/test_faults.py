"""Full disks, folders that cannot be written, no memory, workers that die, NaN, a clock that jumps."""

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from fungi_audio.audio.resample import resample
from fungi_audio.datasets.datafiles import place
from fungi_audio.engine.gradient import gradient
from fungi_audio.errors import DataError, NumericalError, StorageError
from fungi_audio.evaluate import scores
from fungi_audio.files import activations, features
from fungi_audio.files.archives import unpack
from fungi_audio.files.download import fetch
from fungi_audio.files.whole import write_text
from fungi_audio.frontends import cache as fbank_cache
from fungi_audio.frontends.kaldi import Fbank
from tests.conftest import ROOT
from tests.data.test_archives import write_zip
from tests.data.test_data_rules import CLIPS as SOUNDS
from tests.data.test_data_rules import TARGETS, archive_of, project
from tests.data.test_download import Server
from tests.engine.test_encode import small_backbone

CLIPS = 20
NAMES = [f"{number:02d}.wav" for number in range(CLIPS)]
TABLE = pd.DataFrame({"path": NAMES, "wav": NAMES})
NOBODY = 65_534


@pytest.fixture(scope="module")
def inputs() -> Iterator[Path]:
    """Clips at 44.1 kHz and at 16 kHz and an archive, in a folder that everybody may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        samples = np.random.default_rng(0).uniform(-0.5, 0.5, 22_050)
        for rate in (44_100, 16_000):
            (folder / str(rate)).mkdir()
            for clip in NAMES:
                soundfile.write(folder / str(rate) / clip, samples, rate)
        write_zip(folder / "a.zip", [("big", os.urandom(300_000))])
        yield folder


def download(inputs: Path, path: Path) -> None:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            fetch(server.url(), path, allow_http=True)
        finally:
            server.shutdown()


def write_activations(inputs: Path, path: Path) -> None:
    shapes = {"inputs": (2, 192), "context": (2, 192)}
    activations.Writer(path, clips=100, views=1, shapes=shapes, key="key", made={})


def write_features(inputs: Path, path: Path) -> None:
    ids = [f"clip {number}" for number in range(200)]
    clips = pd.DataFrame({"clip_id": ids, "label": "a", "fold": 1, "split": None})
    features.write(path, clips, np.random.default_rng(0).normal(size=(200, 500)), {})


def write_scores(inputs: Path, path: Path) -> None:
    predictions = pd.DataFrame({"clip_id": [os.urandom(50).hex() for _ in range(4000)]})
    scores.write(pd.DataFrame({"value": [1.0]}), predictions, f"{path}.csv", str(path))


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "download": download,
    "unpack": lambda inputs, path: unpack(inputs / "a.zip", path, 1),
    "resample": lambda inputs, path: resample(TABLE, inputs / "44100", path, link=True),
    "data_root": lambda inputs, path: place(TABLE, inputs / "16000", path),
    "log-mel cache": lambda inputs, path: fbank_cache.build([inputs / "16000" / n for n in NAMES], Fbank(64), path, 1),
    "activations": write_activations,
    "features": write_features,
    "scores": write_scores,
    "text": lambda inputs, path: write_text(path, 300_000 * "x"),
}
REASONS = {"disk full": "no space left", "read-only": "read-only", "no permission": "permission denied"}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.fault("{writer}", "{fault}", "one message with the file and what to do; what was finished stays")
@pytest.mark.parametrize("fault", REASONS)
@pytest.mark.parametrize("writer", WRITERS)
def test_storage(writer: str, fault: str, inputs: Path, small_disk: Path) -> None:
    folder = inputs / "closed" if fault == "no permission" else small_disk
    folder.mkdir(exist_ok=True)
    (folder / "finished").write_text("finished")
    if fault == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    folder.chmod(0o555) if fault == "no permission" else None
    with as_nobody() if fault == "no permission" else nullcontext(), pytest.raises(StorageError) as caught:
        WRITERS[writer](inputs, folder / "out")
    assert str(folder / "out") in str(caught.value)
    assert REASONS[fault] in str(caught.value).lower()
    assert (folder / "finished").read_text() == "finished"
    left = [path.name for path in folder.iterdir() if path.name != "finished"]
    assert all(name.startswith(".") or name.endswith((".part", ".validator")) for name in left) or writer == "data_root"


@pytest.mark.fault("features", "a kill while a file is written", "the next attempt removes what was left")
def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".features.abcdefgh.part").write_text("half")
    (tmp_path / ".features.json.abcdefgh.part").write_text("of another file")
    write_features(tmp_path, tmp_path / "features")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".features.json.abcdefgh.part", "features"]


JOB = """
import os, resource
from pathlib import Path
from types import SimpleNamespace
import numpy, torch
from torch.utils.data import DataLoader
from fungi_audio.frontends import cache, kaldi
from joblog import job
snakemake = SimpleNamespace(rule="encode", log=["logs/encode/1.log"], input=[], output=[], params={}, config={})
resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
with job(snakemake):
    %s
"""


def run_job(folder: Path, work: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    return subprocess.run(
        [sys.executable, "-c", JOB % work], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.fault("any job", "memory runs out in {work}", "one message that says what to ask for; exit status 1")
@pytest.mark.parametrize("work", ["numpy.ones(1 << 40)", "torch.ones(1 << 40)", "bytearray(1 << 40)"])
def test_out_of_memory(tmp_path: Path, work: str) -> None:
    done = run_job(tmp_path, work)
    assert done.returncode == 1
    assert "encode: memory ran out" in done.stderr
    assert "--set-resources" in done.stderr
    assert "Traceback" not in done.stderr
    assert "memory ran out" in (tmp_path / "logs/encode/1.log").read_text()


@pytest.mark.fault("any job", "the folder of its log cannot be written", "one message; exit status 1")
def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where a folder should be")
    done = run_job(tmp_path, "pass")
    assert done.returncode == 1
    assert "logs" in done.stderr.splitlines()[-1]


@pytest.mark.fault("any job", "a defect of ours", "its traceback is in the log; exit status 1")
def test_a_defect_keeps_its_traceback(tmp_path: Path) -> None:
    done = run_job(tmp_path, "[][0]")
    assert done.returncode == 1
    assert "IndexError" in (tmp_path / "logs/encode/1.log").read_text()


DEADLY = {
    "of the log-mel cache": "kaldi.Fbank.read = lambda *_: os.kill(os.getpid(), 9); "
    "cache.build([Path('a.wav')], kaldi.Fbank(64), Path('fbank.npy'), 1)",
    "of a loader": "list(DataLoader([1], num_workers=1, worker_init_fn=lambda number: os.kill(os.getpid(), 9)))",
}


@pytest.mark.fault("any job", "a worker process {worker} is killed", "one message; exit status 1; nothing half-written")
@pytest.mark.parametrize("worker", DEADLY)
def test_a_worker_that_dies(tmp_path: Path, worker: str) -> None:
    done = run_job(tmp_path, DEADLY[worker])
    assert done.returncode == 1
    assert "was killed, most likely because memory ran out" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


@pytest.mark.fault("resample", "SoX is killed", "the clips are named; the others are kept")
def test_a_sox_that_dies(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "sox"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nkill -9 $$\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(DataError, match=r"20 clips could not be resampled:\n.*00\.wav .*status -9"):
        resample(TABLE, inputs / "44100", tmp_path / "audio", link=True)
    assert not (tmp_path / "audio").exists()


@pytest.mark.fault("gradient", "the loss of a clip is NaN", "refused, naming the clip's place; nothing is written")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite(value: float) -> None:
    backbone, tensor = small_backbone(), torch.ones(3, 2, 192)
    factors = torch.tensor([1.0, value, 1.0]).double()

    def losses() -> torch.Tensor:
        return backbone.tail({"context": tensor}, backbone.layer(tensor)).sum(1) * factors

    with pytest.raises(NumericalError, match=r"not finite \(clips \[1\]"):
        gradient(backbone, losses)


@pytest.mark.fault("resample", "the clock jumps: sources from the future", "the same bytes")
def test_sources_from_the_future(inputs: Path, tmp_path: Path) -> None:
    later = pd.Timestamp.now().timestamp() + 1e6
    future = tmp_path / "future"
    for clip in NAMES:
        soundfile.write(tmp_path / clip, *soundfile.read(inputs / "44100" / clip))
        os.utime(tmp_path / clip, (later, later))
    resample(TABLE, tmp_path, future, link=True)
    resample(TABLE, inputs / "44100", tmp_path / "now", link=True)
    assert [(future / clip).read_bytes() for clip in NAMES] == [(tmp_path / "now" / c).read_bytes() for c in NAMES]


TOUCH = 'find resources results -newermt now -exec touch -d "$(date -Iseconds)" {} +'


@pytest.mark.fault(
    "chain",
    "the clock is set back between two jobs",
    "one message with the file and both times; exit status 1; what was finished stays",
)
def test_a_clock_that_is_set_back(tmp_path: Path) -> None:
    """What was made before lies in the future; the page's remedy ends that and nothing is repeated."""
    workflow = project(tmp_path / "run", str(archive_of(tmp_path / "a.zip", SOUNDS)))
    workflow.run("results/tiny/clips.parquet")
    later = pd.Timestamp.now().timestamp() + 1e6
    for path in [path for top in ("results", "resources") for path in workflow.path(top).rglob("*")]:
        os.utime(path, (later, later))
    clips = workflow.path("results/tiny/clips.parquet").read_bytes()
    done = workflow.snakemake(*TARGETS, check=False)
    assert done.returncode
    assert "has older modification time" in done.stdout and "input results/tiny/clips.parquet" in done.stdout
    assert TOUCH in (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    subprocess.run(TOUCH, shell=True, cwd=workflow.folder, check=True)
    assert workflow.planned(*TARGETS) == {"checksum": 1, "resample": 1, "place": 1, "datafiles": 2}
    workflow.run(*TARGETS)
    assert workflow.path("results/tiny/clips.parquet").read_bytes() == clips
    assert workflow.planned(*TARGETS) == {}
