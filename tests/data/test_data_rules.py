"""The rules from an archive to datafiles, run by Snakemake: what a change redoes, what a mistake says."""

import hashlib
import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile

from tests.data.test_download import Server, server  # noqa: F401
from tests.tools.workflow import Workflow

TARGETS = [
    "results/tiny/audio_root.txt",
    "results/tiny/archive.sha256",
    *(f"results/tiny/datafiles/{fold}_{part}.json" for fold in (1, 2) for part in ("train", "eval")),
]


def archive_of(path: Path, clips: dict[str, bytes]) -> Path:
    """An archive in ESC-50's layout."""
    lines = ["filename,fold,target,category"]
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in clips.items():
            fold, target = name.removesuffix(".wav").split("-")
            lines.append(f"{name},{fold},{target},{'dog' if target == '0' else 'rooster'}")
            packed.writestr(f"ESC-50-master/audio/{name}", content)
        packed.writestr("ESC-50-master/meta/esc50.csv", "\n".join(lines))
    return path


def clip(seed: int) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, np.random.default_rng(seed).uniform(-0.5, 0.5, 4410), 44_100, format="WAV")
    return content.getvalue()


CLIPS = {f"{fold}-{target}.wav": clip(fold + target) for fold in (1, 2, 3) for target in (0, 1)}


def project(folder: Path, source: str, change: Callable[[dict[str, Any]], object] = lambda config: None) -> Workflow:
    config: dict[str, Any] = {
        "run": {"datasets": ["tiny"], "backbones": ["demo-tiny"], "features": ["embedding"]},
        "datasets": {"tiny": {"layout": "esc50", "source": source, "folds": [1, 2], "target_length": 16}},
    }
    change(config)
    return Workflow(folder, config)


def tiny(config: dict[str, Any]) -> dict[str, Any]:
    return config["datasets"]["tiny"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive_of(tmp_path_factory.mktemp("archive") / "ESC 50.zip", CLIPS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, archive: Path) -> Path:
    """A finished run on a local archive."""
    workflow = project(tmp_path_factory.mktemp("finished"), str(archive))
    workflow.run(*TARGETS)
    return workflow.folder


def test_from_an_archive_to_datafiles(folder: Path, archive: Path) -> None:
    clips = pd.read_parquet(folder / "results/tiny/clips.parquet")
    assert clips["clip_id"].tolist() == sorted(CLIPS)
    assert (folder / "results/tiny/audio_root.txt").read_text() == "resources/audio/tiny\n"
    assert all(soundfile.info(folder / "resources/audio/tiny" / wav).samplerate == 16_000 for wav in clips["wav"])
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (folder / "results/tiny/archive.sha256").read_text() == f"{digest}  ESC 50.zip\n"


def test_a_second_run_does_nothing(folder: Path, archive: Path) -> None:
    assert project(folder, str(archive)).planned(*TARGETS) == {}
    assert project(folder, f"file:{archive}").planned(*TARGETS) == {}


@pytest.mark.fault("chain", "the clock jumps: an archive from the future", "its content counts: nothing is repeated")
def test_an_archive_from_the_future(folder: Path, archive: Path) -> None:
    times = archive.stat().st_atime, archive.stat().st_mtime
    os.utime(archive, (times[0], times[1] + 1e6))
    assert project(folder, str(archive)).planned(*TARGETS) == {}
    os.utime(archive, times)


def test_changes_redo_what_they_affect(folder: Path, archive: Path, tmp_path: Path) -> None:
    def planned(change: Callable[[dict[str, Any]], object], *more: str) -> dict[str, int]:
        return project(folder, str(archive), change).planned(*TARGETS, *more)

    assert planned(lambda config: config.update(data_root=str(tmp_path))) == {"place": 1, "datafiles": 2}
    assert planned(lambda config: tiny(config).update(folds=[1, 2, 3]), "results/tiny/datafiles/3_train.json") == {
        "datafiles": 1
    }
    assert planned(lambda config: tiny(config).update(mean=0, std=1, target_length=32, clips=6)) == {}
    skip = planned(lambda config: tiny(config).update(bad_clips="skip"))
    assert skip == {"index": 1, "resample": 1, "place": 1, "datafiles": 2}


def test_an_edited_table_of_a_folder_is_read_again(tmp_path: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
    workflow = project(tmp_path / "run", str(tmp_path / "ESC-50-master"))
    targets = [target for target in TARGETS if "sha256" not in target]
    workflow.run(*targets)
    assert workflow.planned(*targets) == {}
    table = tmp_path / "ESC-50-master/meta/esc50.csv"
    table.write_text(table.read_text().replace("rooster", "cock"))
    assert workflow.planned(*targets)["index"] == 1


def test_pinning_the_digest_checks_it_and_nothing_else(folder: Path, archive: Path) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    wrong = project(folder, str(archive), lambda config: tiny(config).update(sha256="0" * 64))
    done = wrong.snakemake(*TARGETS, check=False)
    assert done.returncode
    assert f"has SHA-256 {digest}, expected {'0' * 64}" in done.stdout
    right = project(folder, str(archive), lambda config: tiny(config).update(sha256=digest))
    assert right.planned(*TARGETS) == {"checksum": 1}
    right.run(*TARGETS)
    assert right.planned(*TARGETS) == {}


def test_a_job_brings_the_audio_to_the_data_root(tmp_path: Path, archive: Path) -> None:
    """The rule `place` may have run on another machine, or the folder was purged since."""
    scratch = tmp_path / "scratch"
    workflow = project(tmp_path / "run", str(archive), lambda config: config.update(data_root=str(scratch)))
    workflow.run("results/tiny/fbank-16.npy")
    assert {path.name for path in (scratch / "tiny").rglob("*.wav")} == CLIPS.keys()


def test_a_wrong_digest_stops_before_the_archive_is_unpacked(tmp_path: Path, archive: Path) -> None:
    wrong = project(tmp_path, str(archive), lambda config: tiny(config).update(sha256="0" * 64))
    done = wrong.snakemake(*TARGETS, "--keep-going", check=False)
    assert done.returncode
    assert f"expected {'0' * 64}" in done.stdout
    assert not (tmp_path / "resources/raw").exists()


@pytest.mark.fault("secrets", "a run with a token from the environment", "in no file; a query of the config in no log")
def test_from_a_url(
    server: Server,  # noqa: F811
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STORAGE_TOKEN", "SECRET")
    server.content = archive.read_bytes()
    url = server.url("/archive/ESC%2050.zip?key=QUERY&token=${STORAGE_TOKEN}")
    refused = project(tmp_path, url).snakemake("--dry-run", check=False)
    assert refused.returncode
    assert "plain http" in refused.stdout
    assert "QUERY" not in refused.stdout
    workflow = project(tmp_path, url, lambda config: config.update(allow_http=True))
    server.cut_after = [len(server.content) // 2]
    output = workflow.run(*TARGETS)
    assert (tmp_path / "resources/downloads/tiny/ESC_50.zip").read_bytes() == server.content
    assert workflow.planned(*TARGETS) == {}
    assert server.requests[-1]["path"].endswith("?key=QUERY&token=SECRET")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"SECRET" in path.read_bytes()] == []
    shown = [path for path in files if path.relative_to(tmp_path).parts[0] in ("logs", "results")]
    assert [path for path in shown if b"QUERY" in path.read_bytes()] == []
    assert "SECRET" not in output
    assert "QUERY" not in output


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (CLIPS | {"1-0.wav": b"", "1-1.wav": b"text"}, "2 of 6 clips in resources/raw/tiny cannot be used:"),
        ({"1-0.wav": CLIPS["1-0.wav"]}, "fold (1 has no training|2 has no test) clips"),  # the jobs run in any order
    ],
)
def test_mistakes_are_one_message_without_a_traceback(tmp_path: Path, clips: dict[str, bytes], message: str) -> None:
    archive = archive_of(tmp_path / "bad.zip", clips)
    done = project(tmp_path / "run", str(archive)).snakemake(*TARGETS, check=False)
    assert done.returncode
    assert re.search(message, done.stdout)
    assert "Traceback" not in done.stdout
    assert not (tmp_path / "run" / "resources" / "audio").exists()


def test_a_misspelt_path(tmp_path: Path, archive: Path) -> None:
    done = project(tmp_path, str(archive.with_name("ESC 5.zip"))).snakemake(*TARGETS, check=False)
    assert done.returncode
    assert f"ESC 5.zip does not exist; did you mean {archive}?" in done.stdout
    assert "Traceback" not in done.stdout
