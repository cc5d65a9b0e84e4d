"""The digest of an archive, compared with the one that the config expects."""

from fungi_audio.download import verify
from joblog import job

with job(snakemake):
    verify(snakemake.input[0], snakemake.output[0], snakemake.params.sha256)
