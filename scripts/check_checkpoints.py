"""Before a run begins: do the local checkpoints fit their families? Reads JSON, says what does not in one message.

The main process of Snakemake imports no torch, so that this is a process of its own.
"""

import json
import sys

import torch

from fungi_audio.engine.shard import open_backbone
from fungi_audio.errors import FungiError

for name, path, options in json.load(sys.stdin):
    try:
        open_backbone(path, options, torch.device("cpu"), "fp32")
    except FungiError as error:
        sys.exit(f"backbones.{name}: {error}")
