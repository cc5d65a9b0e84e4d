"""A published checkpoint from its URL."""

from fungi_audio.files.download import fetch
from joblog import job

with job(snakemake):
    sha256 = snakemake.config["backbones"][snakemake.wildcards.backbone]["sha256"]
    fetch(snakemake.params.url, snakemake.output[0], sha256, snakemake.config["allow_http"])
