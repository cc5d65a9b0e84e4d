"""Records of jobs, the way back from a row, and what they must not hold."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from fungi_audio import trace as trace_module
from fungi_audio.errors import DataError
from fungi_audio.files.provenance import shown, without_secrets, write_record
from fungi_audio.files.whole import sha256
from fungi_audio.report.settings import removed, used
from fungi_audio.trace import trace

CONFIG = {
    "run": {"datasets": ["birds"], "backbones": ["tiny"], "features": []},
    "seed": 7,
    "datasets": {"birds": {"source": "https://me:SECRET@example.org/birds.zip?token=SECRET"}},
    "backbones": {"tiny": {"checkpoint": "random:tiny-patch"}},
    "features": {},
}
SCORES = "dataset,backbone,features,fold,value\n"


def test_urls_are_shown_without_secrets() -> None:
    for url in ("https://me:SECRET@example.org/x.zip?token=SECRET", "https://a@b:SECRET@example.org/x.zip#SECRET"):
        assert shown(url) == "https://example.org/x.zip"
    assert without_secrets([{"a": ("file:x", "https://[x?SECRET", 1)}]) == [{"a": ["file:x", "https://[x?...", 1]}]
    address = "https://me:SECRET@example.org/get?file=SECRET&token=${TOKEN}&v=${A}SECRET&x=SECRET==&n=#SECRET"
    kept = without_secrets(address)
    assert kept == "https://example.org/get?file=...&token=${TOKEN}&v=...&x=...&n=" == without_secrets(kept)


@pytest.mark.fault("secrets", "a token in the config", "not in the records or in the report's config")
def test_records_hold_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = {"url": "https://example.org/x?token=SECRET"}
    write_record(
        Path("logs/download/birds-x.zip.log"), config=CONFIG, rule="download", input=[], output=["x"], params=params
    )
    assert (tmp_path / "results/provenance/download/birds-x.zip.json").is_file()
    assert all(b"SECRET" not in path.read_bytes() for path in tmp_path.rglob("*.json"))
    assert "SECRET" not in str(used(CONFIG)) and removed(used(CONFIG))


def made(tmp_path: Path) -> Path:
    """A run of one row: archive -> features -> scores -> table."""
    (tmp_path / "birds.zip").write_bytes(b"birds")
    for name, text in {"scores.csv": "birds,tiny,kl,1,0.5\n", "other.csv": "birds,tiny,kl,2,0.4\n"}.items():
        (tmp_path / "results" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "results" / name).write_text(SCORES + text)
    (tmp_path / "results/table.csv").write_text(SCORES + "birds,tiny,kl,2,0.4\nbirds,tiny,kl,1,0.5\n")
    chain = ["birds.zip", "results/part.parquet", "results/scores.csv"]
    for number, (source, target) in enumerate(pairwise(chain)):
        name = Path(f"logs/step{number}.log")
        write_record(
            name, config=CONFIG, rule=f"step{number}", input=[source], output=[target], params={"code": "c" * 16}
        )
    (tmp_path / "results/skipped.csv").write_text("clip_id,reason\n")
    inputs = ["results/skipped.csv", "results/other.csv", "results/scores.csv"]
    write_record(
        Path("logs/table.log"), config=CONFIG, rule="table", input=inputs, output=["results/table.csv"], params={}
    )
    return tmp_path / "results" / "table.csv"


def test_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = trace(made(tmp_path), 1)
    assert found["score"]["value"] == "0.5"
    assert found["seed"] == 7
    assert list(found["files"]) == ["results/scores.csv", "results/part.parquet", "birds.zip"]
    assert found["files"]["results/part.parquet"] == "not there any more"
    assert found["files"]["birds.zip"] == sha256(tmp_path / "birds.zip")
    assert [job["rule"] for job in found["jobs"]] == ["step1", "step0"]
    assert found["made with"][0]["rules"] == {"step1": 1, "step0": 1}


@pytest.mark.fault("provenance", "records lost or damaged, no such row", "one message")
def test_trace_of_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = made(tmp_path)
    with pytest.raises(DataError, match="no row 2"):
        trace(table, 2)
    with pytest.raises(DataError, match="no record of the job that made this row"):
        trace(table, 0)
    with pytest.raises(DataError, match=r"nowhere\.csv cannot be read"):
        trace(tmp_path / "nowhere.csv", 0)
    record = tmp_path / "results/provenance/step0.json"
    record.write_text(json.dumps(json.loads(record.read_text()))[:50])
    with pytest.raises(DataError, match=r"step0\.json is damaged"):
        trace(table, 1)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.md", b"# Results\n\n| features | accuracy |\n"),
        ("comparisons.csv", b"dataset,backbone,features,protocol\nbirds,tiny,kl,knn\n"),
        ("part.parquet", b"PAR1\xff\x00\n"),
        ("empty.csv", b""),
        ("a folder", None),
    ],
)
@pytest.mark.fault("provenance", "{name} instead of table.csv", "one message that says which file to give")
def test_trace_of_what_is_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes | None
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path)
    path = tmp_path / "results" / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"Give the path of a run's results/table\.csv"):
        trace(path, 0)


def test_trace_of_a_large_archive_reads_the_recorded_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trace_module, "HASHED", 3)
    table = made(tmp_path)
    assert trace(table, 1)["files"]["birds.zip"] == "a large file, not read"
    output = tmp_path / "results/birds/archive.sha256"
    output.parent.mkdir()
    output.write_text(f"{64 * 'a'}  birds.zip\n")
    job = {"input": ["birds.zip"], "output": ["results/birds/archive.sha256"], "params": {}}
    write_record(Path("logs/checksum/birds.log"), config=CONFIG, rule="checksum", **job)
    assert trace(table, 1)["files"]["birds.zip"] == 64 * "a"
