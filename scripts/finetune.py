"""Fine-tune a pretrained backbone on one fold of a dataset, or go on after a kill."""

from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import save_file

from fungi_audio.datasets.datafiles import place
from fungi_audio.engine.device import claim_several
from fungi_audio.engine.shard import open_statistics
from fungi_audio.files.locks import only_writer
from fungi_audio.files.provenance import versions
from fungi_audio.files.whole import whole
from fungi_audio.training import publish
from fungi_audio.training.distributed import launch
from fungi_audio.training.fold import finetune_fold
from fungi_audio.training.labelled import Labelled
from joblog import job

files, params, output = snakemake.input, snakemake.params, snakemake.output
name, fold = snakemake.wildcards.tuning, snakemake.wildcards.fold
folder = Path(output.model).parent / ".state"
state = folder / "training.pt"
gpus = snakemake.resources.get("gpu", 1)

with job(snakemake), only_writer(folder / "lock"), claim_several(params.device, gpus) as devices:
    settings, seed = dict(params.settings), params.seed
    torch.set_num_threads(snakemake.threads)
    classes = pd.read_csv(files.classes, keep_default_na=False)
    names = classes["display_name"].astype(str).tolist()
    statistics = open_statistics(files.statistics, params.statistics)
    table = pd.read_parquet(files.clips)
    root = place(table, files.audio, snakemake.config["data_root"], snakemake.threads)
    data = Labelled(table, names, Path(files.fbank), root, fold, statistics, params.multilabel)
    stride = tuple(params.stride) if params.stride else None
    arguments = (data, Path(files.checkpoint), stride, settings, name, seed, state, params.precision)
    workers = max(0, min(8, snakemake.threads) - 1)
    tuned, metadata = launch(devices, finetune_fold, *arguments, workers)
    metadata |= {"classes": names, "mids": classes["mid"].tolist(), "mean": statistics[0], "std": statistics[1]}
    metadata |= {"frontend": "kaldi", "multilabel": params.multilabel, "finetune": name, "fold": fold, "seed": seed}
    metadata |= {"epoch": tuned.epoch, "settings": settings, "versions": versions()}
    publish.write_safetensors(Path(output.model), tuned.state, metadata)
    publish.write_curves(Path(output.curves), list(map(Path, output.plots)), tuned.curves, f"{name} {fold}")
    with whole(output.scores) as part:
        save_file({str(epoch): scores.contiguous() for epoch, scores in tuned.scores.items()}, part)
    state.unlink(missing_ok=True)
