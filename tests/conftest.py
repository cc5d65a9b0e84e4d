"""Fixtures that several tests share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.tools.reliability"]
ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference material beside a development checkout; a user's clone has none."""
    if not SHARED.is_dir():
        pytest.skip("the reference data in ../shared is not part of a clone")
    return SHARED


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB, to fill for real."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def small_results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run of three datasets: its folder and the arguments of `report.results.read`."""
    from tests.tools import small_run  # slow to import, seldom needed

    root = tmp_path_factory.mktemp("run")
    return root, small_run.make(root, small_run.DATASETS, small_run.BACKBONES, clips=8)


@pytest.fixture(scope="session")
def small_report(small_results: tuple[Path, dict[str, Any]]) -> Path:
    """Its report."""
    from fungi_audio.files.provenance import commit
    from fungi_audio.report import page, results, run
    from tests.tools import small_run

    root, arguments = small_results
    scores, found = results.read(**arguments)
    config = small_run.config(small_run.DATASETS, small_run.BACKBONES)
    text = page.render(
        scores, found, config, small_run.GRAPH, {"gradient": 9}, run.rule_times(root / "results" / "benchmarks"),
        run.facts(found), commit(ROOT),
    )  # fmt: skip
    path = root / "report.html"
    path.write_text(text, encoding="utf-8")
    return path
