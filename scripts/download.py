"""An archive from its URL."""

from fungi_audio.files.download import fetch
from joblog import job

with job(snakemake):
    fetch(snakemake.params.url, snakemake.output[0], allow_http=snakemake.config["allow_http"])
