"""The digest of an archive, compared with the one that the config expects."""

from fungi_audio.files.download import record, verify
from joblog import job

archive = snakemake.input[0]

with job(snakemake):
    record(archive, verify(archive, snakemake.params.sha256), snakemake.output[0])
