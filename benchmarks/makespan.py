"""Time and GPU utilisation of a run on 1, 8, 64 and 512 GPUs, simulated from its plan.

    python -m benchmarks.makespan --configfile tests/cluster/audioset.yaml

The jobs, their order and what they ask for come from the dry run of the real workflow; how long a job takes
is the cost model's prediction (the run time it asks for, less the margin) plus `--start` seconds for Slurm,
Python and the status check. A job starts when its inputs exist and its GPU is free, the one with most work
behind it first. CPU jobs find a core at once. What no simulation shows: queues, other users, slow disks.
"""

import argparse
import heapq
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from fungi_audio.run import cost

from .common import machine, report

ROOT = Path(__file__).parents[1]
CLUSTERS = (1, 8, 64, 512)
PREPARATION = ("download", "download_checkpoint", "checksum", "unpack", "index", "resample", "place", "inputs")


@dataclass(frozen=True)
class Job:
    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    seconds: float
    gpus: int
    group: int = 0  #: jobs with the same number share a Slurm job; 0: a job of its own


def plan(configfile: Path, start: float) -> list[Job]:
    """Every job of the run, from Snakemake's dry run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "snakemake", "--dry-run", "--profile", str(ROOT / "slurm")]
        command += ["--directory", folder, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(configfile)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    jobs, groups = [], 0
    for block in re.split(r"^(?=\[.*Group job | *rule )", text, flags=re.MULTILINE)[1:]:
        if block.startswith("["):
            groups += 1
            continue
        rule = block[: block.index(":")].split()[1]
        lines = dict(re.findall(r"^ +(\w+): (.*)$", block, re.MULTILINE))
        asked = dict(re.findall(r"(\w+)=([^,\n]+)", lines.get("resources", "")))
        files = [tuple(lines[name].split(", ")) if name in lines else () for name in ("input", "output")]
        predicted = (60 * int(asked.get("runtime", 0)) - cost.JOB_SECONDS) / cost.SAFETY
        group = groups if block.startswith(" ") else 0
        jobs.append(Job(rule, *files, start + max(predicted, 0), int(asked.get("gpu", 0)), group))
    return jobs


def dependents(jobs: list[Job]) -> tuple[dict[int, list[int]], list[int]]:
    """For each job the jobs that wait for it, and how many each job waits for."""
    maker = {file: number for number, job in enumerate(jobs) for file in job.outputs}
    after: dict[int, list[int]] = defaultdict(list)
    waiting = []
    for number, job in enumerate(jobs):
        before = {maker[file] for file in job.inputs if file in maker}
        waiting.append(len(before))
        for other in before:
            after[other].append(number)
    return after, waiting


def longest_paths(jobs: list[Job], after: dict[int, list[int]], waiting: list[int]) -> list[float]:
    """Seconds from each job's start to the end of the longest chain behind it."""
    open_, order, left = [n for n, count in enumerate(waiting) if not count], [], list(waiting)
    while open_:
        order.append(open_.pop())
        for number in after[order[-1]]:
            left[number] -= 1
            if not left[number]:
                open_.append(number)
    path = [0.0] * len(jobs)
    for number in reversed(order):
        path[number] = jobs[number].seconds + max((path[n] for n in after[number]), default=0.0)
    return path


def makespan(jobs: list[Job], gpus: int) -> float:
    """Seconds until the last job ends on a cluster with so many GPUs."""
    after, waiting = dependents(jobs)
    path = longest_paths(jobs, after, waiting)
    ready = [(-path[n], n) for n, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free = 0.0, gpus
    while ready or running:
        held = []
        while ready:
            entry = heapq.heappop(ready)
            needed = min(jobs[entry[1]].gpus, gpus)
            if needed > free:
                held.append(entry)
                continue
            free -= needed
            heapq.heappush(running, (now + jobs[entry[1]].seconds, entry[1]))
        ready = held
        now, done = heapq.heappop(running)
        free += min(jobs[done].gpus, gpus)
        for number in after[done]:
            waiting[number] -= 1
            if not waiting[number]:
                heapq.heappush(ready, (-path[number], number))
    return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=ROOT / "tests" / "cluster" / "audioset.yaml")
    parser.add_argument("--start", type=float, default=40, help="seconds a job costs beside its work (default 40)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    options = parser.parse_args()

    jobs = plan(options.configfile, options.start)
    extraction = [job for job in jobs if job.rule not in (*PREPARATION, "evaluate", "table", "report", "map", "all")]
    work = sum(job.seconds * job.gpus for job in jobs)
    rows = [("GPUs", "whole run, h", "extraction, h", "GPUs busy in extraction", "speed-up")]
    numbers = []
    for gpus in CLUSTERS:
        whole, part = makespan(jobs, gpus), makespan(extraction, gpus)
        numbers.append({"gpus": gpus, "whole": whole, "extraction": part, "utilisation": work / part / gpus})
        share, gain = numbers[-1]["utilisation"], numbers[0]["extraction"] / part
        rows.append((str(gpus), f"{whole / 3600:.1f}", f"{part / 3600:.1f}", f"{share:.0%}", f"{gain:.1f}"))
    count = sum(1 for job in jobs if job.gpus)
    title = f"{options.configfile.name}: {len(jobs)} jobs, {count} with a GPU, {work / 3600:.0f} GPU hours"
    report(title, machine("cpu", 1), rows, numbers, options.json)


if __name__ == "__main__":
    main()
