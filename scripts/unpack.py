"""An archive as a folder."""

from fungi_audio.files.archives import unpack
from fungi_audio.files.download import verify
from joblog import job

archive = snakemake.input[0]

with job(snakemake):
    verify(archive, snakemake.config["datasets"][snakemake.wildcards.dataset]["sha256"])
    unpack(archive, snakemake.output[0], snakemake.params.max_gigabytes)
