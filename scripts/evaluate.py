"""Scores and predictions of one combination of features on one fold."""

from fungi_audio.evaluate import scores
from joblog import job

params, output = snakemake.params, snakemake.output

with job(snakemake):
    tables = scores.evaluate(params.parts, snakemake.wildcards.fold, params.settings, params.seed, params.multilabel)
    scores.write(*tables, output.scores, output.predictions)
