"""What a person sees at the end of a run: what was made, how long it took, where to look."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..files.provenance import record_of

PRODUCTS = {
    "results/report.html": "the report; open it in a browser",
    "results/table.md": "the tables as text",
    "results/table.tex": "the tables for a paper",
    "results/table.csv": "every score",
    "results/comparisons.csv": "every difference from the embedding, with intervals",
    "results/features": "the features, as Parquet",
}
LINES = 400


def duration(seconds: float) -> str:
    """Seconds in words, e.g. ``2 h 05 min`` or ``41 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def success(made: Iterable[str], jobs: int, seconds: float) -> str:
    """The end of a good run.

    Args:
        made: files that its jobs wrote.
        jobs: how many there were.
        seconds: from start to end.
    """
    made = set(made)
    lines = [f"Done: {jobs} job{'' if jobs == 1 else 's'} in {duration(seconds)}."]
    answer = Path("results/answer.txt")
    if "results/answer.txt" in made and answer.is_file():
        lines += ["", answer.read_text(encoding="utf-8").strip()]
    shown = {
        path: what for path, what in PRODUCTS.items() if path in made or any(p.startswith(f"{path}/") for p in made)
    }
    width = max(map(len, shown), default=0)
    return "\n".join([*lines, "", *(f"  {path:{width}}  {what}" for path, what in shown.items())]).rstrip()


def failure(failed: Mapping[str, Sequence[str]], logs: Sequence[str]) -> str:
    """The end of a run in which jobs failed.

    Args:
        failed: a job in words (rule and wildcards) -> its log files.
        logs: Snakemake's own.
    """
    lines = [f"{len(failed)} job{'' if len(failed) == 1 else 's'} failed." if failed else "The run was stopped."]
    for job, own in failed.items():
        lines += ["", f"  {job}: {reason(own)}", *(f"    log: {path}" for path in own)]
    lines += ["", f"What is done is kept; the same command goes on from here. Snakemake's log: {' '.join(logs)}"]
    return "\n".join(lines)


def stopped(logs: Sequence[str]) -> list[str]:
    """Of the logs of jobs that shared a Slurm job, those of the ones that began and did not end; else all.

    Snakemake removes the output of the whole group, so a record that is not older than the log tells who ended well.
    """

    def ended(log: Path) -> bool:
        record = record_of(log)
        return record.is_file() and record.stat().st_mtime_ns >= log.stat().st_mtime_ns

    began = [Path(log) for log in logs if Path(log).is_file() and Path(log).stat().st_size]  # else made by Snakemake
    return [str(log) for log in began if not ended(log)] or list(logs)


def reason(logs: Sequence[str]) -> str:
    """Why a job failed, in one line: its last error, or where a job that was killed had got to."""
    for path in logs:
        if not Path(path).is_file():
            continue
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
        told = [line for line in lines if line.strip()]
        errors = [line.partition(" ERROR ")[2].partition(": ")[2] for line in told if " ERROR " in line]
        if errors and errors[-1]:
            return errors[-1]
        if any(" ERROR " in line or line.startswith("Traceback") for line in told):
            return told[-1].strip()
        if told:
            return f"stopped before its end (memory, run time or cancelled?); last line: {told[-1].strip()}"
    return "it left no word in a log; it was killed or never started (memory, run time, cluster)"
