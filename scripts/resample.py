"""The 16 kHz audio of a dataset."""

import pandas as pd

from fungi_audio.audio.resample import resample
from joblog import job

with job(snakemake):
    clips = pd.read_parquet(snakemake.input.clips)
    resample(clips, snakemake.input.raw, snakemake.output[0], snakemake.params.link, snakemake.threads)
