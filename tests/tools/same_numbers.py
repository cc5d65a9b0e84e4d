"""Did an edit move a number? Everything that real runs compute, before and after it.

    python -m tests.tools.same_numbers make BEFORE            # runs the workflow of this folder, some minutes
    python -m tests.tools.same_numbers make AFTER --only demo tokens
    python -m tests.tools.same_numbers compare BEFORE AFTER

Every run is on the CPU, in fp32, one job and one thread at a time. What is compared is the data of feature files (not
their metadata, which names versions), scores and predictions, by SHA-256; equal ones need the same processor.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
ADDED = {"labels"}  # columns that later versions have
QUICK = {"knn": {"k": [5]}, "few_shot": {"shots": []}}
RUNS: dict[str, dict[str, Any]] = {
    "demo": {"files": ["configs/demo.yaml"], "over": {}},
    "tokens": {  # losses that read every token: average pooling, masked patches
        "files": ["configs/demo.yaml"],
        "over": {
            "run": {"features": ["embedding", "kl", "simclr", "mpc", "mpg"]},
            "backbones": {"demo-tiny": {"pooling": "avg", "gradient_tokens": "all", "stride": [16, 16]}},
            "features": {"mpc": {"objective": "mpc"}, "mpg": {"objective": "mpg"}},
            "evaluation": QUICK,
        },
    },
    "esc10": {"files": ["configs/esc10-tiny.yaml"], "over": {"evaluation": QUICK}},
}


def make(name: str, project: Path, kept: Path) -> None:
    """Run a configuration of `project` in a folder of its own and keep its features, scores and predictions."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if name == "esc10":
            pack = folder / "resources" / "esc10"
            pack.mkdir(parents=True)
            script = SHARED / "data" / "make_esc50_archive.py"
            subprocess.run([sys.executable, script, "--out", pack / "ESC-50-master.zip"], check=True)
            (pack / "ssast_tiny_patch.pth").symlink_to(SHARED / "golden" / "ssast_tiny_patch.pth")
        run = RUNS[name]
        (folder / "over.yaml").write_text(yaml.safe_dump({"device": "cpu", "precision": "fp32"} | run["over"]))
        files = [project / file for file in run["files"]] + [folder / "over.yaml"]
        command = [sys.executable, "-m", "snakemake", "--snakefile", project / "Snakefile", "--directory", folder]
        command += ["--cores", "1", "--quiet", "all", "--configfile", *files]
        subprocess.run(list(map(str, command)), check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        for part in ("features", "evaluation"):
            shutil.copytree(folder / "results" / part, kept / name / part)


def digest(path: Path) -> str:
    """SHA-256 of the data in a result."""
    if path.suffix == ".csv":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    table = pq.read_table(path).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.select(sorted(set(table.column_names) - ADDED)).schema) as writer:
        writer.write_table(table.select(sorted(set(table.column_names) - ADDED)).combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def differences(before: Path, after: Path) -> list[str]:
    """What differs, in the runs that both folders have; of features by how much at most, relative to a clip's norm."""
    names = {path.name for path in before.iterdir()} & {path.name for path in after.iterdir()}
    files = {
        root: {str(path.relative_to(root)): path for name in names for path in (root / name).rglob("*.*")}
        for root in (before, after)
    }
    found = []
    for name in sorted(files[before].keys() | files[after]):
        one, other = files[before].get(name), files[after].get(name)
        if one is None or other is None:
            found.append(f"{name}: only {'after' if one is None else 'before'}")
        elif digest(one) != digest(other):
            found.append(f"{name}: {distance(one, other) if 'features/' in name else 'differs'}")
    return found


def distance(one: Path, other: Path) -> str:
    a, b = (np.stack(pq.read_table(path)["feature"].to_pylist()).astype(float) for path in (one, other))
    if a.shape != b.shape:
        return f"{a.shape} and {b.shape}"
    return f"{(np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)).max():.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("kept", type=Path)
    maker.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    maker.add_argument("--project", type=Path, default=ROOT, help="folder of the Snakefile, e.g. an older checkout")
    comparer = commands.add_parser("compare")
    comparer.add_argument("kept", type=Path, nargs=2)
    arguments = parser.parse_args()
    if arguments.command == "make":
        for name in arguments.only:
            make(name, arguments.project.resolve(), arguments.kept)
        return 0
    found = differences(*arguments.kept)
    print("\n".join(found) or "all equal")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
