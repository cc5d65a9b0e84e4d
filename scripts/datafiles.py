"""SSAST's datafiles of one fold."""

import pandas as pd

from fungi_audio.datasets.datafiles import write_datafiles
from joblog import job

with job(snakemake):
    clips = pd.read_parquet(snakemake.input[0])
    write_datafiles(clips, snakemake.params.fold, snakemake.params.root, dict(snakemake.output.items()))
