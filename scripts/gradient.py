"""One feature of one shard of a dataset, for one fold or all."""

import pandas as pd
import torch

from fungi_audio.engine import extract, shard
from fungi_audio.engine import negatives as comparison
from fungi_audio.engine.device import claim
from fungi_audio.engine.projection import load_head, load_signs
from fungi_audio.files import activations, features, unfinished
from joblog import job

params, wildcards, files, output = snakemake.params, snakemake.wildcards, snakemake.input, snakemake.output[0]
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    rows = shard.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips = table.iloc[rows]
    backbone = shard.open_backbone(files.checkpoint, params.frames, params.backbone, device, params.precision)
    artifacts, signs = {}, None
    if "signs" in named:
        artifacts["head"], signs = load_head(files.head), load_signs(files.signs)
    stored = "activations" in named
    made = activations.made_on(files.activations) if stored else shard.made_on(device, params.precision)
    if "comparison" in named:
        artifacts["comparison"] = comparison.load(files.comparison, made["precision"])
    objective = extract.objective_for(params.settings, **artifacts)
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= {"backbone_settings": dict(params.backbone)} | made
    key = shard.file_key(dict(params), device.type, files=list(files))
    with unfinished.rows(output, len(signs.bits) if signs else backbone.width, key) as kept:
        if stored:
            batches = activations.read(files.activations, extract.GRADIENT_CLIPS, kept.done)
        else:
            statistics = shard.open_statistics(files.statistics, params.statistics)
            views = params.settings.get("views", 0)
            source = shard.source(files.fbank, statistics, table, rows, params.seed, views)
            batches = extract.live(backbone, source, kept.done)
        parts = extract.features(backbone, objective, batches, signs, clips["clip_id"].tolist(), kept.done)
        features.write(output, clips, kept.extend(parts), metadata)
