"""Check that every fold of a dataset can be evaluated as the config asks."""

import pandas as pd

from fungi_audio.evaluate.plan import plan
from fungi_audio.files.whole import write_text
from joblog import job

params = snakemake.params

with job(snakemake):
    clips = pd.read_parquet(snakemake.input[0])
    write_text(snakemake.output[0], plan(clips, snakemake.wildcards.dataset, params.folds, params.k))
