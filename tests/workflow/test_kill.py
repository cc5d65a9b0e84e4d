"""Kill a running chain at any time, start it again: the results are those of an undisturbed run."""

import contextlib
import hashlib
import itertools
import os
import random
import re
import signal
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile

from fungi_audio.evaluate.cost_table import COST
from tests.data.test_download import Server
from tests.tools.workflow import Workflow

KILLS = 25  # of each of the two tests, which run side by side
CLIPS = 16
SECONDS = (3, 20)  # from the start of Snakemake, which takes about four, to the kill
CHANGING = ("results/benchmarks/", "results/provenance/", "results/report.html")  # times
MARK = ".snakemake_timestamp"  # which Snakemake puts into a folder when its job has ended
LOCKED = "cannot be locked"


def archive() -> bytes:
    """Clips of two classes and folds, one of them badly named."""
    random, content = np.random.default_rng(0), BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        lines = ["path,label,fold"]
        for number in range(CLIPS):
            sound = BytesIO()
            tone = np.sin(2 * np.pi * (300 + 400 * (number % 2)) * np.arange(13_000) / 44_100)
            soundfile.write(sound, 0.3 * tone + 0.05 * random.normal(size=13_000), 44_100, format="WAV")
            name = "a; touch PWNED $(touch PWNED).wav" if number == 0 else f"{number:02d}.wav"
            packed.writestr(f"data/{name}", sound.getvalue())
            lines.append(f"{name},class {number % 2},{1 + number // 2 % 2}")
        packed.writestr("data/metadata.csv", "\n".join(lines))
    return content.getvalue()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Server() as server:
        server.content = archive()
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.url()
        server.shutdown()


def chain(folder: Path, url: str) -> Workflow:
    """From a download to the report, quickly: two features, two folds."""
    config = {
        "run": {"datasets": ["tones"], "backbones": ["tiny"], "features": ["embedding", "simclr"]},
        "allow_http": True,
        "datasets": {
            "tones": {"layout": "csv", "source": url, "clips": CLIPS, "folds": [1, 2], "target_length": 32, "shards": 1}
        },
        "backbones": {"tiny": {"family": "ssast", "checkpoint": "random:tiny-patch", "layer": 1}},
        "features": {"simclr": {"views": 2, "comparison_clips": 4}},
        "evaluation": {"knn": {"k": [3]}, "linear": {"l2": {"values": 2}}, "few_shot": {"shots": []}},
    }
    return Workflow(folder, config)


def digests(folder: Path) -> dict[str, str]:
    """Every file below results/ and resources/ that must not change from run to run, the tables without their times."""
    found = {}
    for path in (path for top in ("results", "resources") for path in (folder / top).rglob("*")):
        name = path.relative_to(folder).as_posix()
        with contextlib.suppress(FileNotFoundError):  # a job that was left behind works on
            if path.is_file() and path.name != MARK and not name.startswith(CHANGING):
                found[name] = hashlib.sha256(without_costs(path)).hexdigest()
    return found


def without_costs(path: Path) -> bytes:
    """A file's content, without the time and memory that the extraction took."""
    match path.name:
        case "table.csv":
            return pd.read_csv(path, dtype=str).drop(columns=COST).to_csv().encode()
        case "table.md":
            return re.sub(rb"### Cost of extraction\n.*?(?=\n## |\Z)", b"", path.read_bytes(), flags=re.DOTALL)
        case _:
            return path.read_bytes()


def is_temporary(name: str) -> bool:
    return any(part.startswith(".") or part.endswith((".part", ".validator")) for part in name.split("/"))


def assert_whole(folder: Path, reference: dict[str, str]) -> None:
    """What has its final name is what the undisturbed run has there; a folder holds all of its files."""
    found = {name: digest for name, digest in digests(folder).items() if not is_temporary(name)}
    assert found.items() <= reference.items()
    for made in ("resources/raw/tones/", "resources/audio/tones/"):
        inside = {name for name in found if name.startswith(made)}
        assert not inside or inside == {name for name in reference if name.startswith(made)}


def assert_same(folder: Path, undisturbed: Path) -> None:
    assert digests(folder) == digests(undisturbed)
    assert {path.name for path in (folder / "results").glob("table.*")} == {"table.csv", "table.md", "table.tex"}
    assert not list(folder.rglob("PWNED"))


def kill(process: subprocess.Popen[str], chance: random.Random) -> None:
    """SIGKILL to all processes of a run, to Snakemake alone, or to one process of a job."""
    jobs = psutil.Process(process.pid).children(recursive=True)
    match chance.choice(["everything", "snakemake", "job"]):
        case "job" if jobs:
            chance.choice(jobs).kill()
        case "snakemake":
            process.kill()
        case _:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def live(workflow: Workflow, chance: random.Random, seconds: float | None) -> bool:
    """Start the chain and kill it after a while (None: never); false when it ended before that."""
    output = workflow.path("output.txt")
    with output.open("w") as file:
        process = workflow.start(output=file)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process, chance)
        return True
    if process.returncode:
        assert LOCKED in output.read_text(), output.read_text()
        workflow.run("--unlock")
        return live(workflow, chance, seconds)
    return False


@pytest.mark.slow
@pytest.mark.fault(
    "chain",
    "killed (SIGKILL) at a random moment: all processes, Snakemake alone, or one process of a job",
    "run again, it ends with the table and the files of an undisturbed run; after every kill, each final name holds "
    "a whole file",
)
@pytest.mark.parametrize("first", [0, 100])
def test_killed_at_any_time(
    tmp_path: Path, url: str, first: int, record_property: Callable[[str, object], None]
) -> None:
    undisturbed = chain(tmp_path / "undisturbed", url)
    undisturbed.run()
    reference = digests(undisturbed.folder)
    kills = 0
    for seed in itertools.count(first):
        chance, workflow = random.Random(seed), chain(tmp_path / str(seed), url)
        while live(workflow, chance, chance.uniform(*SECONDS) if kills < KILLS else None):
            kills += 1
            assert_whole(workflow.folder, reference)
        assert_same(workflow.folder, undisturbed.folder)
        print(f"chain {seed}: {kills} kills so far")
        if kills >= KILLS:
            break
    record_property("times", kills)
