"""A seeded, untrained checkpoint in the published layout."""

from safetensors.torch import save_file

from fungi_audio.files.whole import whole
from fungi_audio.models.ssast.network import random_state
from joblog import job

with job(snakemake), whole(snakemake.output[0]) as part:
    save_file(random_state(snakemake.params.kind, snakemake.params.seed), part)
