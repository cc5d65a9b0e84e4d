"""One feature of one shard of a dataset, for one fold or all."""

import pandas as pd
import torch

from fungi_audio import activations, comparison, extract, features
from fungi_audio.device import claim
from fungi_audio.projection import load_head, load_signs
from joblog import job

params, wildcards, files = snakemake.params, snakemake.wildcards, snakemake.input
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    rows = extract.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips = table.iloc[rows]
    frames = params.frames
    backbone = extract.open_backbone(files.checkpoint, frames, params.backbone, device, params.precision)
    if "activations" in named:
        batches = activations.read(files.activations, extract.GRADIENT_CLIPS)
    else:
        statistics = extract.open_statistics(files.statistics, params.statistics)
        views = params.settings.get("views", 0)
        batches = extract.live(backbone, extract.source(files.fbank, statistics, table, rows, params.seed, views))
    artifacts, signs = {}, None
    if "signs" in named:
        artifacts["head"], signs = load_head(files.head), load_signs(files.signs)
    if "comparison" in named:
        artifacts["comparison"], _ = comparison.load(files.comparison)
    objective = extract.objective_for(params.settings, **artifacts)
    feature = extract.features(backbone, objective, batches, signs, len(clips))
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= {"backbone_settings": dict(params.backbone)} | extract.made_on(device, params.precision)
    features.write(snakemake.output[0], clips, feature, metadata)
