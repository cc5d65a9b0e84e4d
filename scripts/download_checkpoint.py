"""A published checkpoint from its URL."""

from pathlib import Path

from fungi_audio.download import fetch
from joblog import job

with job(snakemake):
    fetch(snakemake.params.url, Path(snakemake.output[0]), snakemake.params.sha256, snakemake.params.allow_http)
