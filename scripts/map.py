"""Two-dimensional maps of the features of one dataset and backbone."""

from fungi_audio.files.whole import whole
from fungi_audio.report.maps import maps
from joblog import job

params = snakemake.params

with job(snakemake):
    table = maps(params.parts, params.combinations, params.seed)
    with whole(snakemake.output[0]) as part:
        table.to_parquet(part, index=False)
