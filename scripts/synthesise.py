"""The demonstration dataset."""

from fungi_audio.datasets.synthetic import synthesise
from joblog import job

with job(snakemake):
    synthesise(snakemake.output[0], snakemake.params.clips, snakemake.params.seed, snakemake.threads)
