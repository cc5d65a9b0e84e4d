"""A stand-in for extraction that keeps a diary of who wrote what and when."""

import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))

from fungi_audio.files.whole import write_text
from joblog import job

snakemake: Any


def note(word: str) -> None:
    slurm = os.environ.get("SLURM_JOB_ID", "local")
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "none")
    line = f"{snakemake.wildcards.shard} {word} {time.time()} {os.getpid()} {slurm} {os.uname().nodename} {gpu}\n"
    with Path("diary.txt").open("a") as diary:
        diary.write(line)


with job(snakemake):
    note("start")
    ballast = b"x" * (snakemake.params.megabytes * 10**6)
    time.sleep(snakemake.params.seconds)
    write_text(snakemake.output[0], f"part {snakemake.wildcards.shard}\n")
    note("end")
