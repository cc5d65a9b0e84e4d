"""Any two combinations of a finished run."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fungi_audio.compare import compare
from fungi_audio.errors import DataError
from fungi_audio.evaluate.table import read

SCRIPTS = Path(__file__).parents[2] / "scripts"


def test_against_the_embedding_it_is_what_the_run_says(small_results: tuple[Path, dict[str, Any]]) -> None:
    of_run = read(small_results[1]["comparisons"])
    mine = compare(small_results[1]["table"], "embedding+kl", "embedding")
    expected = of_run[of_run["features"] == "embedding+kl"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, expected[mine.columns], check_dtype=False, atol=1e-9)


def test_the_other_way_round(small_results: tuple[Path, dict[str, Any]]) -> None:
    table = small_results[1]["table"]
    one, other = (compare(table, *pair) for pair in (("embedding+kl", "kl"), ("kl", "embedding+kl")))
    assert (one["difference"] + other["difference"]).abs().max() < 1e-9
    assert one["mcnemar_p"].equals(other["mcnemar_p"])


def test_mistakes(small_results: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    table = small_results[1]["table"]
    with pytest.raises(DataError, match=r"has no 'embeding' \(did you mean 'embedding'\?\)"):
        compare(table, "kl", "embeding")
    with pytest.raises(DataError, match="is not a table of results"):
        compare(small_results[1]["comparisons"], "kl", "embedding")
    (tmp_path / "table.csv").write_bytes(Path(table).read_bytes())
    with pytest.raises(DataError, match=r"predictions.parquet is not there; keep results/evaluation"):
        compare(tmp_path / "table.csv", "kl", "embedding")


def test_command(small_results: tuple[Path, dict[str, Any]]) -> None:
    command = [sys.executable, "-m", "fungi_audio.compare", str(small_results[1]["table"]), "kl", "embedding"]
    done = subprocess.run(command, env={"PYTHONPATH": str(SCRIPTS)}, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("kl against embedding, in percentage points")
    assert "linear probe" in done.stdout and " to " in done.stdout
