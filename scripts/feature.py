"""One feature of one shard of a dataset, for one fold or all."""

import pandas as pd
import torch

from fungi_audio.engine import negatives, shard
from fungi_audio.engine.device import claim
from fungi_audio.engine.projection import load_head, load_signs
from fungi_audio.files import activations, features, unfinished
from fungi_audio.objectives import extract
from joblog import job

params, wildcards, files, output = snakemake.params, snakemake.wildcards, snakemake.input, snakemake.output[0]
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    rows = shard.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips, ids = table.iloc[rows], table["clip_id"].iloc[rows].tolist()
    stored = "activations" in named
    made = activations.made_on(files.activations) if stored else shard.made_on(device, params.precision)
    artifacts, signs = {}, load_signs(files.signs) if "signs" in named else None
    if "head" in named:
        artifacts["head"] = load_head(files.head)
    if "negatives" in named:
        artifacts["comparison"] = negatives.load(files.negatives, made["precision"])
    objective = extract.objective_for(params.settings, **artifacts)
    options = dict(params.backbone)
    backbone = shard.open_backbone(files.checkpoint, options, device, params.precision, objective.pretext)
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= {"backbone_settings": options, "frontend": backbone.frontend.name} | made
    key = shard.file_key(dict(params), device.type, files=list(files))
    with unfinished.rows(output, objective.width(backbone, signs), key) as kept:
        if stored:
            batches = activations.read(files.activations, extract.GRADIENT_CLIPS, kept.done)
            parts = extract.of_stored(backbone, objective, batches, signs, ids, kept.done)
        else:
            data_root, views = snakemake.config["data_root"], objective.views
            opened = shard.open_values(backbone.frontend, table, rows, named, params.statistics, data_root)
            pool = shard.pool(backbone.frontend, *opened, table, rows, params.seed, views)
            parts = extract.of_inputs(backbone, objective, pool, signs, ids, params.seed, kept.done)
        features.write(output, clips, kept.extend(parts), metadata)
