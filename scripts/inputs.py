"""A front end's values of a dataset, once for all backbones that read them."""

from pathlib import Path

import numpy as np
import pandas as pd

from fungi_audio.datasets.datafiles import place
from fungi_audio.frontends import cache, named
from joblog import job

with job(snakemake):
    clips = pd.read_parquet(snakemake.input.clips)
    output, front = Path(snakemake.output.values), named(snakemake.wildcards.inputs)
    root = place(clips, snakemake.input.audio, snakemake.config["data_root"], snakemake.threads, front.rate)
    cache.build([root / wav for wav in clips["wav"]], front, output, snakemake.threads)
    train = np.flatnonzero(clips["split"].isna() | (clips["split"] == "train"))
    cache.write_statistics(output, train, Path(snakemake.output.statistics))
