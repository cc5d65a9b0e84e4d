"""Models of transformers and timm, built from config.json and filled with weights that were read as data.

Nothing here asks the network, and code that comes with a checkpoint runs only where the user trusts it.
"""

from typing import Any

import torch

from ...errors import CheckpointError, ConfigError
from ..checkpoints import Checkpoint
from ..recognise import advice
from .types import Kind

INSTALL = "make huggingface, or pip install --no-deps -r requirements-huggingface.txt"
UNUSED = ("masked_spec_embed", "decoder.", "text_")  # what a file may lack, since it is only of training or of text
BUFFERS = ("relative_position_index", "position_ids")  # computed; older versions kept them in files


def refuse_code(checkpoint: Checkpoint, trusted: bool) -> None:
    """Raises ConfigError when config.json or preprocessor_config.json names code that is not trusted, or not there."""
    for name in ("config", "preprocessor"):
        code = checkpoint.metadata.get(name, {}).get("auto_map")
        if code and not trusted:
            raise ConfigError(
                f"{checkpoint.path} brings Python code of its own, which was not run; set trust_remote_code: true if "
                "you trust it"
            )
        if "--" in str(code):  # OWNER/NAME--MODULE.CLASS, which transformers would download
            raise ConfigError(
                f"{checkpoint.path} takes its Python code from another repository; copy the code into the folder and "
                "remove what is before -- under auto_map of its JSON files"
            )


def load_transformers(checkpoint: Checkpoint, kind: Kind, trusted: bool) -> Any:
    """The model that config.json describes with the weights of `checkpoint.state`, float32.

    Heads that the model has not are dropped.

    Raises:
        ConfigError: transformers is not installed.
        CheckpointError: config.json is of no model, or does not fit the weights.
    """
    try:
        from transformers import AutoConfig, AutoModel, ClapAudioModel, logging
    except ImportError as error:
        raise ConfigError(f"family: huggingface needs transformers, an optional extra: {INSTALL}") from error
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    path = checkpoint.path
    folder = path if path.is_dir() else path.parent
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trusted)
        if config.model_type == "clap_audio_model":
            model_class: Any = ClapAudioModel
        else:
            with torch.device("meta"):
                model_class = type(AutoModel.from_config(config, trust_remote_code=trusted))
        state = dict(checkpoint.state)  # not read from the folder once more, which may hold other weights too
        model, found = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0][:300]
        raise CheckpointError(f"{path}: {reason}; {advice(checkpoint.state)}") from error
    if lacking := [key for key in found["missing_keys"] if not key.startswith(UNUSED)]:
        raise CheckpointError(f"{path} lacks {', '.join(sorted(lacking)[:3])}; {advice(checkpoint.state)}")
    if wrong := [str(key) for key in found["mismatched_keys"]]:
        raise CheckpointError(f"{path}: other shapes than config.json says: {', '.join(sorted(wrong)[:3])}")
    layers = ".".join(part for part in (kind.inside, kind.layers, "") if part)
    more = [key for key in found["unexpected_keys"] if layers in key and not key.endswith(BUFFERS)]
    if kind.layers and more:
        raise CheckpointError(f"{path} has what the network of its config.json has not: {', '.join(sorted(more)[:3])}")
    return model


def load_timm(checkpoint: Checkpoint, name: str) -> Any:
    """The vision transformer `name` of timm for log-mels of 1,024 frames, float32.

    Raises:
        ConfigError: no architecture of timm itself (a name on the Hub would be looked up there).
        CheckpointError: other weights.
    """
    import timm

    if not timm.is_model(name):
        raise ConfigError(f"timm: {name!r} is none of timm's own architectures, such as vit_base_patch16_224")
    more = checkpoint.metadata.get("config", {}).get("model_args", {})
    shape = {"img_size": (1024, 128), "in_chans": 1, "num_classes": 0, "global_pool": "avg"}
    try:
        # Named here, so that model_args cannot name a file or a place for more weights.
        model = timm.create_model(name, pretrained=False, pretrained_cfg=None, checkpoint_path="", **shape | more)
        model.load_state_dict({key: value.float() for key, value in checkpoint.state.items() if key[:5] != "head."})
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path} is no vision transformer of timm: {str(error)[:300]}") from error
    return model
