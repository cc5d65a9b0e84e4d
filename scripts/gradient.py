"""One feature of one shard of a dataset, for one fold or all."""

import pandas as pd
import torch

from fungi_audio import activations, comparison, extract, features, unfinished
from fungi_audio.device import claim
from fungi_audio.projection import load_head, load_signs
from joblog import job

params, wildcards, files, output = snakemake.params, snakemake.wildcards, snakemake.input, snakemake.output[0]
named = dict(files.items())

with job(snakemake), claim(params.device) as device:
    torch.set_num_threads(snakemake.threads)
    table = pd.read_parquet(files.clips)
    shard = extract.shard_rows(len(table), int(wildcards.shard), params.shards)
    clips = table.iloc[shard]
    backbone = extract.open_backbone(files.checkpoint, params.frames, params.backbone, device, params.precision)
    artifacts, signs = {}, None
    if "signs" in named:
        artifacts["head"], signs = load_head(files.head), load_signs(files.signs)
    if "comparison" in named:
        artifacts["comparison"], _ = comparison.load(files.comparison)
    objective = extract.objective_for(params.settings, **artifacts)
    metadata = extract.metadata(wildcards, params.settings, files.checkpoint, signs, params.seed)
    metadata |= {"backbone_settings": dict(params.backbone)} | extract.made_on(device, params.precision)
    key = extract.file_key(dict(params), str(device), files=list(files))
    with unfinished.rows(output, len(signs.bits) if signs else backbone.width, key) as rows:
        if "activations" in named:
            batches = activations.read(files.activations, extract.GRADIENT_CLIPS, rows.done)
        else:
            statistics = extract.open_statistics(files.statistics, params.statistics)
            views = params.settings.get("views", 0)
            source = extract.source(files.fbank, statistics, table, shard, params.seed, views)
            batches = extract.live(backbone, source, rows.done)
        parts = extract.features(backbone, objective, batches, signs, len(clips), rows.done)
        features.write(output, clips, rows.extend(parts), metadata)
