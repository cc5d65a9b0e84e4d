# What the rules of features.smk ask.


def network_options(wildcards):
    """The family, its options and what of the dataset decides the network's numbers."""
    definition = backbone(wildcards)
    others = {"checkpoint", "sha256", "projection_dim"}
    options = {key: value for key, value in definition.items() if key not in others}
    return options | family(wildcards).dataset_options(dataset(wildcards))


def trunk_options(wildcards):
    """The same without what only picks among the tokens that are stored."""
    options = network_options(wildcards)
    if shape_of(wildcards.backbone).stored:
        options.pop("gradient_tokens", None)
    return options


def reading(wildcards):
    return family(wildcards).reading(backbone(wildcards), dataset(wildcards))


def values(wildcards):
    """The front end's cache and statistics, or the audio of a front end that has no cache."""
    read, folder = reading(wildcards), f"results/{wildcards.dataset}"
    if read.inputs is None:
        return {"audio": audio_root(wildcards.dataset, None, read.rate)}
    files = {"values": f"{folder}/{read.inputs}.npy"}
    if read.seconds is None:
        files["offsets"] = f"{folder}/{read.inputs}.offsets.npy"
    if read.measured:
        files["statistics"] = f"{folder}/{read.inputs}.json"
    return files


def configured_statistics(wildcards):
    """What the dataset's definition says instead of the measured statistics."""
    definition = dataset(wildcards)
    return (
        [definition["mean"], definition["std"]] if reading(wildcards).measured else None
    )


def clip_seconds(wildcards):
    return cost.clip_seconds(dataset(wildcards), reading(wildcards))


def extraction_rate(cores):
    return cost.rate(config["cluster"], config["device"], cores=cores)


def encode_share(wildcards):
    """What the cost model needs of one encode job: clips, views, seconds, shape of the network."""
    views = view_count(wildcards.views)
    clips = cost.clips(dataset(wildcards)) / shard_count(
        wildcards.dataset, wildcards.views
    )
    return clips, views, clip_seconds(wildcards), shape_of(wildcards.backbone)


def negatives_cost(wildcards):
    share = int(wildcards.clips), 2, clip_seconds(wildcards)
    return cost.encode_seconds(*share, shape_of(wildcards.backbone), extraction_rate(1))


def is_stored(wildcards):
    """Whether a feature is made of what the trunk stored."""
    pretext = feature(wildcards)["objective"] in PRETEXT
    return bool(shape_of(wildcards.backbone).stored) and not pretext


def feature_inputs(wildcards):
    settings, name = feature(wildcards), wildcards.backbone
    folder = f"results/activations/{wildcards.dataset}/{name}/{view_set(settings)}"
    files = {"activations": f"{folder}/{wildcards.shard}.safetensors"}
    if not is_stored(wildcards):
        files = values(wildcards)
    if settings["objective"] != "embedding":
        files["signs"] = f"results/projections/{name}.safetensors"
    if settings["objective"] not in ("embedding", *PRETEXT):
        files["head"] = f"results/heads/{name}/{settings['objective']}.safetensors"
    if count := settings.get("comparison_clips"):
        files["negatives"] = (
            f"results/negatives/{wildcards.dataset}/{name}/{count}/{wildcards.fold}.safetensors"
        )
    return files


def feature_share(wildcards):
    """Clips of one job, and passes of the network for each: its views or masks."""
    settings = feature(wildcards)
    passes = settings.get("masks") or view_count(view_set(settings))
    parts = part_count(wildcards.dataset, wildcards.feature)
    return cost.clips(dataset(wildcards)) / parts, passes


def feature_cost(wildcards):
    clips, passes = feature_share(wildcards)
    shape = shape_of(wildcards.backbone)
    if is_stored(wildcards):
        return cost.gradient_seconds(clips, 1, shape, extraction_rate(1))
    share = clips, passes, clip_seconds(wildcards), shape
    seconds = cost.encode_seconds(*share, extraction_rate(8))
    return seconds + cost.gradient_seconds(clips, 1, shape, extraction_rate(8))


def feature_memory(wildcards):
    clips, passes = feature_share(wildcards)
    shape = shape_of(wildcards.backbone)
    if is_stored(wildcards):
        return cost.gradient_mb(clips, passes, shape)
    share = 0, passes, clip_seconds(wildcards), shape
    return cost.encode_mb(*share) + cost.live_mb(shape)
