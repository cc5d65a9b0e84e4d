"""What Snakemake itself costs: a chain of no-op shards, planned and run locally.

    python -m benchmarks.scheduler [--shards 1000] [--threads 2]

Each shard is a job that only makes its file, as `encode` and `gradient` would, and one job reads them all.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .common import arguments, machine, report

WORKFLOW = """
rule all:
    input: "table.txt"
rule encode:
    output: touch("activations/{{shard}}")
rule gradient:
    input: "activations/{{shard}}"
    output: touch("features/{{shard}}")
rule table:
    input: expand("features/{{shard}}", shard=range({shards}))
    output: touch("table.txt")
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--shards", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text(WORKFLOW.format(shards=options.shards), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--cores", str(options.threads), "--quiet", "all"]
        seconds = {}
        for name, extra in (("plan", ["--dry-run"]), ("run", ["--scheduler", "greedy"]), ("nothing to do", [])):
            start = time.perf_counter()
            subprocess.run([*command, *extra], cwd=folder, check=True, capture_output=True)
            seconds[name] = time.perf_counter() - start
    jobs = 2 * options.shards + 2
    rows = [("", "s", "ms a job")] + [(name, f"{s:.1f}", f"{1000 * s / jobs:.0f}") for name, s in seconds.items()]
    title = f"{options.shards} shards, {jobs} jobs"
    report(title, machine("cpu", options.threads), rows, seconds, options.json)


if __name__ == "__main__":
    main()
