"""Fine-tune a pretrained backbone on one fold of a dataset, or go on after a kill."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from fungi_audio.datafiles import place
from fungi_audio.device import claim
from fungi_audio.encode import resolve_precision
from fungi_audio.files import whole
from fungi_audio.locks import only_writer
from fungi_audio.provenance import versions
from fungi_audio.seeds import named_seed
from fungi_audio.shard import open_statistics
from fungi_audio.training import publish
from fungi_audio.training.classifier import describe, new_classifier
from fungi_audio.training.finetune import finetune
from fungi_audio.training.labelled import open_clips
from joblog import job

files, params, output, fold = snakemake.input, snakemake.params, snakemake.output, snakemake.wildcards.fold
folder = Path(output.model).parent / ".state"
state = folder / "training.pt"

with job(snakemake), only_writer(folder / "lock"), claim(params.device) as device:
    settings, seed = dict(params.settings), params.seed
    torch.set_num_threads(snakemake.threads)
    classes = pd.read_csv(files.classes, keep_default_na=False)
    names = classes["display_name"].astype(str).tolist()
    statistics = open_statistics(files.statistics, params.statistics)
    table = pd.read_parquet(files.clips)
    root = place(table, files.audio, snakemake.config["data_root"], snakemake.threads)
    data = (table, names, files.fbank, root, fold, statistics, params.multilabel, settings["selection"], seed)
    clips = open_clips(*data)
    torch.manual_seed(named_seed(seed, "fine-tuning", snakemake.wildcards.tuning, fold))
    stride = tuple(params.stride) if params.stride else None
    model = new_classifier(files.checkpoint, clips.fbank.shape[1], len(names), settings, stride)
    dtype = resolve_precision(params.precision, device)
    workers = max(0, min(8, snakemake.threads) - 1)
    tuned = finetune(model, clips, settings, seed, state, device, dtype, workers)
    metadata = {"network": describe(model, settings["head"]), "classes": names, "mids": classes["mid"].tolist()}
    metadata |= {"mean": statistics[0], "std": statistics[1], "frontend": "kaldi", "multilabel": params.multilabel}
    metadata |= {"finetune": snakemake.wildcards.tuning, "fold": fold, "epoch": tuned.epoch, "seed": seed}
    metadata |= {"settings": settings, "n_train": len(clips.train), "versions": versions()}
    publish.write_safetensors(Path(output.model), tuned.state, metadata)
    publish.write_curves(
        Path(output.curves), list(map(Path, output.plots)), tuned.curves, f"{metadata['finetune']} {fold}"
    )
    with whole(output.scores) as part:
        save_file({str(epoch): scores.contiguous() for epoch, scores in tuned.scores.items()}, part)
    state.unlink(missing_ok=True)
