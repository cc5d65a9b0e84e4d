"""Paired timing, peak memory, the machine, and one table: what the benchmarks share."""

import argparse
import datetime
import json
import os
import platform
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fungi_audio.files.provenance import versions

Variants = dict[str, Callable[[], object]]


def cpu_seconds() -> float:
    """Processor time of this process, its threads and the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


CLOCKS = {"wall": time.perf_counter, "cpu": cpu_seconds}


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: all cores)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for a shared machine")
    parser.add_argument("--rounds", type=int, default=5, help="paired repetitions (default 5)")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    return parser


def machine(device: str, threads: int, clock: str = "wall") -> dict[str, Any]:
    """What the numbers depend on: processor or GPU, cores, versions, date."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    name = torch.cuda.get_device_name() if device == "cuda" else model or platform.machine()
    features = torch.backends.cpu.get_cpu_capability()
    extras = {" bf16": torch.cpu._is_avx512_bf16_supported(), " AMX": torch.cpu._is_amx_tile_supported()}
    return {
        "device": name,
        "cpu": model,
        "instructions": features + "".join(extra for extra, has in extras.items() if has),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "clock": clock,
        "load": round(os.getloadavg()[0], 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def paired(variants: Variants, rounds: int, device: str = "cpu", clock: str = "wall") -> dict[str, np.ndarray]:
    """Seconds `[rounds]` of each variant; after one warm-up, every round runs all of them in turn.

    Compare variants by `ratio`: what else the machine does then hits both sides alike. On a machine that
    is shared, `clock` "cpu" with one thread counts the work without the waiting.
    """
    now = CLOCKS[clock]
    times: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for number in range(-1, rounds):
        for name in names if number % 2 else reversed(names):
            start = now()
            variants[name]()
            if device == "cuda":
                torch.cuda.synchronize()
            if number >= 0:
                times[name].append(now() - start)
    return {name: np.array(seconds) for name, seconds in times.items()}


def ratio(over: np.ndarray, under: np.ndarray) -> float:
    """Median over the rounds of the ratio of two variants' times."""
    return float(np.median(over / under))


def peak_megabytes(function: Callable[..., object], *values: object) -> float:
    """Peak memory of a call in a fresh process: resident on the CPU, allocated on a GPU if it used one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, function, *values).result()


def _peak(function: Callable[..., object], *values: object) -> float:
    function(*values)
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss counts the parent before the exec
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def report(title: str, facts: dict[str, Any], rows: Sequence[Sequence[str]], numbers: Any, path: Path | None) -> None:
    """Print one Markdown table (the first row is its head) and write everything as JSON."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print(
        f"\n{title}: {facts['device']}, {facts['threads']} threads of {facts['cores']} cores, {facts['date']}, ", end=""
    )
    print(f"torch {facts['versions']['torch']}, {facts['clock']} time, load {facts['load']}\n")
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if path:
        path.write_text(json.dumps({"machine": facts, "numbers": numbers}, indent=1) + "\n", encoding="utf-8")
