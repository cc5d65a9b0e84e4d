"""Clip table, classes and the clips left out of a dataset."""

from fungi_audio.datasets.index import index
from joblog import job

with job(snakemake):
    params = snakemake.params
    tables = index(snakemake.input[0], params.layout, params.options, params.skip, snakemake.threads)
    tables.write(snakemake.output.clips, snakemake.output.classes, snakemake.output.skipped)
