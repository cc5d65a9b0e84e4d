"""What was run, and on what: code, versions, machine, time of every rule."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import psutil

from ..files.provenance import versions
from .results import Pair


def machine() -> str:
    """The machine that this process runs on, in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def facts(pairs: Sequence[Pair]) -> dict[str, str]:
    """Lines about what made the results: checkpoints, devices, machine, versions."""
    found: dict[str, dict[str, None]] = {}
    libraries = {"Python": platform.python_version()}
    for pair in pairs:
        for made_by in pair.maps.attrs.get("made_by", {}).values():
            where = f"{made_by.get('device')}, precision {made_by.get('precision')}"
            checkpoint = f"SHA-256 {str(made_by.get('checkpoint'))[:16]}…"
            found.setdefault(f"checkpoint of {pair.backbone}", {})[checkpoint] = None
            found.setdefault("extracted on", {})[where] = None
            libraries |= made_by.get("versions", {})
    libraries |= versions()
    lines = {key: "; ".join(values) for key, values in found.items()}
    lines["report written on"] = machine()
    return lines | {"versions": ", ".join(f"{name} {version}" for name, version in libraries.items())}


def rule_times(benchmarks: str | Path) -> pd.DataFrame:
    """Time and memory of every rule, from the files of Snakemake's `benchmark:` directive.

    Args:
        benchmarks: their folder; a first folder (or a file's name) below it is a rule.

    Returns:
        Columns `rule`, `jobs`, `seconds` (sum over jobs), `longest`, `peak_mb` (largest resident memory of
        a job, MiB; NaN where it was too short to measure), longest rule first.
    """
    folder = Path(benchmarks)
    rows = []
    for path in sorted(folder.rglob("*.tsv")):
        rule = path.relative_to(folder).parts[0].removesuffix(".tsv")
        rows.append(pd.read_csv(path, sep="\t", na_values="-").assign(rule=rule)[["rule", "s", "max_rss"]])
    table = pd.concat([pd.DataFrame(columns=["rule", "s", "max_rss"], dtype=float), *rows])
    rules = table.groupby("rule").agg(
        jobs=("s", "size"), seconds=("s", "sum"), longest=("s", "max"), peak_mb=("max_rss", "max")
    )
    return rules.reset_index().sort_values("seconds", ascending=False, ignore_index=True)
