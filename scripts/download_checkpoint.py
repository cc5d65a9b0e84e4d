"""A published checkpoint from the first of its places that gives it."""

from fungi_audio.files.sources import retrieve
from joblog import job

with job(snakemake):
    pinned = snakemake.config["backbones"][snakemake.wildcards.backbone]["sha256"]
    places = [(url, pinned or sha256) for url, sha256 in snakemake.params.places]
    retrieve(places, snakemake.output[0], snakemake.config["allow_http"])
