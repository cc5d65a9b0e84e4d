# What extraction's rules ask: their inputs and what the cost model predicts for them.
from dataclasses import replace


def frames_of_all_clips(wildcards):
    return cost.clips(dataset(wildcards)), int(wildcards.frames)


def backbone_settings(wildcards):
    """What decides the numbers of the network."""
    definition = backbone(wildcards)
    others = {"checkpoint", "sha256", "projection_dim"}
    if stored(definition):
        others.add("gradient_tokens")  # picks among the tokens that are stored
    return {key: value for key, value in definition.items() if key not in others}


def encode_share(wildcards):
    """What the cost model needs of one encode job: clips, views, frames, shape of the trunk."""
    views = view_count(wildcards.views)
    clips = cost.clips(dataset(wildcards)) / shard_count(
        wildcards.dataset, wildcards.views
    )
    return (
        clips,
        views,
        dataset(wildcards)["target_length"],
        trunk_of(wildcards.backbone),
    )


def encode_cost(wildcards):
    return cost.encode_seconds(
        *encode_share(wildcards),
        cost.rate(config["cluster"], config["device"], cores=8),
    )


def encode_memory(wildcards):
    return cost.encode_mb(*encode_share(wildcards))


def comparison_cost(wildcards):
    return cost.encode_seconds(
        int(wildcards.clips),
        2,
        dataset(wildcards)["target_length"],
        trunk_of(wildcards.backbone),
        cost.rate(config["cluster"], config["device"], cores=1),
    )


def gradient_inputs(wildcards):
    """Stored activations or, for backbones whose loss reads every token, the log-mels to encode on the way."""
    settings, name = feature(wildcards), wildcards.backbone
    folder = f"results/activations/{wildcards.dataset}/{name}/{view_set(settings)}"
    files = {"activations": f"{folder}/{wildcards.shard}.safetensors"}
    if not stored(backbone(wildcards)):
        files = log_mels(wildcards)
    if settings["objective"] != "embedding":
        files["signs"] = f"results/projections/{name}.safetensors"
        files["head"] = f"results/heads/{name}/{settings['objective']}.safetensors"
    if count := settings.get("comparison_clips"):
        files["comparison"] = (
            f"results/comparisons/{wildcards.dataset}/{name}/{count}/{wildcards.fold}.safetensors"
        )
    return files


def gradient_share(wildcards):
    shards = part_count(wildcards.dataset, wildcards.feature)
    views = view_count(view_set(feature(wildcards)))
    return cost.clips(dataset(wildcards)) / shards, views


def gradient_cost(wildcards):
    clips, views = gradient_share(wildcards)
    trunk, rate = trunk_of(wildcards.backbone), cost.rate(
        config["cluster"], config["device"], cores=1
    )
    seconds = cost.gradient_seconds(clips, 1, trunk, rate)
    if not stored(backbone(wildcards)):
        seconds += cost.encode_seconds(
            clips, views, dataset(wildcards)["target_length"], trunk, rate
        )
    return seconds


def masked_seconds(wildcards):
    clips, _ = gradient_share(wildcards)
    trunk = trunk_of(wildcards.backbone)
    shape = replace(trunk, stride=trunk.patch)
    rate = cost.rate(config["cluster"], config["device"], cores=8)
    masks = feature(wildcards)["masks"]
    return cost.encode_seconds(
        clips, masks, dataset(wildcards)["target_length"], shape, rate
    )
