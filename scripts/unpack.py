"""An archive as a folder."""

from fungi_audio.archives import unpack
from joblog import job

with job(snakemake):
    unpack(snakemake.input.archive, snakemake.output[0], snakemake.params.max_gigabytes)
