"""Pretrain an SSAST on the log-mels of one or several datasets, or go on after a kill."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from fungi_audio.engine.device import claim_several
from fungi_audio.files.locks import only_writer
from fungi_audio.files.provenance import versions
from fungi_audio.training import pretrain, publish
from fungi_audio.training.batches import pooled_statistics
from fungi_audio.training.distributed import launch
from joblog import job

params, output = snakemake.params, snakemake.output
folder = Path(output.pth).parent / ".state"
state = folder / "training.pt"
gpus = snakemake.resources.get("gpu", 1)

with job(snakemake), only_writer(folder / "lock"), claim_several(params.device, gpus) as devices:
    definition, name = dict(params.settings), snakemake.wildcards.pretraining
    configured = definition.pop("mean"), definition.pop("std")
    every = snakemake.config["pretrain"][name]["checkpoint_every"]
    settings = pretrain.Pretraining(**definition, checkpoint_every=every, seed=params.seed)
    tables = [pd.read_parquet(path, columns=["split"]) for path in snakemake.input.clips]
    rows = [np.flatnonzero(table["split"].fillna("") != "test") for table in tables]
    statistics = pooled_statistics(snakemake.input.statistics, [len(part) for part in rows], configured)
    torch.set_num_threads(snakemake.threads)
    arguments = (settings, list(map(Path, snakemake.input.fbank)), rows, statistics, state, params.precision)
    workers = min(4, snakemake.threads - 1) if devices[0].type == "cuda" else 0
    weights, curves = launch(devices, pretrain.pretrain, *arguments, workers)
    metadata = {"pretraining": name, "settings": definition, "seed": params.seed}
    metadata |= {"mean": statistics[0], "std": statistics[1], "versions": versions()}
    publish.write_pth(Path(output.pth), weights)
    publish.write_safetensors(Path(output.safetensors), weights, metadata)
    publish.write_curves(Path(output.curves), list(map(Path, output.plots)), curves, name)
    state.unlink(missing_ok=True)
