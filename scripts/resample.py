"""The audio of a dataset at one rate."""

import pandas as pd

from fungi_audio.audio.resample import resample
from joblog import job

with job(snakemake):
    clips = pd.read_parquet(snakemake.input.clips)
    params = snakemake.params
    resample(clips, snakemake.input.raw, snakemake.output[0], params.link, snakemake.threads, params.rate)
