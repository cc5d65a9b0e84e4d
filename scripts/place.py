"""Audio where the machine that extracts reads it."""

import pandas as pd

from fungi_audio.datasets.datafiles import place
from fungi_audio.files.whole import write_text
from joblog import job

with job(snakemake):
    clips = pd.read_parquet(snakemake.input.clips)
    params = snakemake.params
    root = place(clips, snakemake.input.audio, params.data_root, snakemake.threads, params.get("rate", 16_000))
    write_text(snakemake.output[0], f"{root}\n")
