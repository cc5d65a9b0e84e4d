"""A seeded, untrained checkpoint of a family."""

from safetensors.torch import save_file

from fungi_audio.files.whole import whole
from fungi_audio.registry import module
from joblog import job

params = snakemake.params

with job(snakemake), whole(snakemake.output[0]) as part:
    save_file(module("family", params.family).random_state(params.kind, params.seed), part)
