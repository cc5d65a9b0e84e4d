# Log-mels and a frozen backbone -> activations of the target layer -> features.


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
        cost.trunk(backbone(wildcards)),
    )


def encode_cost(wildcards):
    return cost.encode_seconds(
        *encode_share(wildcards),
        cost.rate(config["cluster"], config["device"], cores=8),
    )


def encode_memory(wildcards):
    return cost.encode_mb(*encode_share(wildcards))


rule encode:
    input:
        unpack(log_mels),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/activations/{dataset}/{backbone}/{views}/{shard}.safetensors",
    log:
        "logs/encode/{dataset}/{backbone}/{views}/{shard}.log",
    benchmark:
        "results/benchmarks/encode/{dataset}/{backbone}/{views}/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(encode_cost, encode_memory),
    params:
        backbone=backbone_settings,
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        views=lambda wildcards: (
            0 if wildcards.views == "clean" else view_count(wildcards.views)
        ),
        shards=lambda wildcards: shard_count(wildcards.dataset, wildcards.views),
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "encode", "activations", family_module(wildcards)
        ),
    script:
        "../scripts/encode.py"


rule comparison:
    input:
        unpack(log_mels),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/comparisons/{dataset}/{backbone}/{clips}/{fold}.safetensors",
    log:
        "logs/comparison/{dataset}/{backbone}/{clips}/{fold}.log",
    benchmark:
        "results/benchmarks/comparison/{dataset}/{backbone}/{clips}/{fold}.tsv"
    group:
        "comparison"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **gpu_job(
            lambda wildcards: cost.encode_seconds(
                int(wildcards.clips),
                2,
                dataset(wildcards)["target_length"],
                cost.trunk(backbone(wildcards)),
                cost.rate(config["cluster"], config["device"], cores=1),
            ),
            cost.TORCH_MB + cost.PYTHON_MB,
        ),
        in_turn=1,
    params:
        backbone=backbone_settings,
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest("encode", family_module(wildcards)),
    script:
        "../scripts/comparison.py"


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
    views = view_set(feature(wildcards))
    return cost.clips(dataset(wildcards)) / shard_count(
        wildcards.dataset, views
    ), view_count(views)


def gradient_cost(wildcards):
    clips, views = gradient_share(wildcards)
    trunk, rate = cost.trunk(backbone(wildcards)), cost.rate(
        config["cluster"], config["device"], cores=1
    )
    seconds = cost.gradient_seconds(clips, 1, trunk, rate)
    if not stored(backbone(wildcards)):
        seconds += cost.encode_seconds(
            clips, views, dataset(wildcards)["target_length"], trunk, rate
        )
    return seconds


rule gradient:
    input:
        unpack(gradient_inputs),
        clips="results/{dataset}/clips.parquet",
        checkpoint=checkpoint,
    output:
        "results/features/{dataset}/{backbone}/{feature}/{fold}/part-{shard}.parquet",
    log:
        "logs/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.log",
    benchmark:
        "results/benchmarks/gradient/{dataset}/{backbone}/{feature}/{fold}/{shard}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 1
    resources:
        **gpu_job(
            gradient_cost,
            lambda wildcards: cost.gradient_mb(
                *gradient_share(wildcards), cost.trunk(backbone(wildcards))
            ),
        ),
    params:
        backbone=backbone_settings,
        statistics=lambda wildcards: [
            dataset(wildcards)["mean"],
            dataset(wildcards)["std"],
        ],
        settings=feature,
        frames=lambda wildcards: dataset(wildcards)["target_length"],
        shards=lambda wildcards: shard_count(
            wildcards.dataset, view_set(feature(wildcards))
        ),
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=lambda wildcards: code_digest(
            "extract", f"objectives.{feature(wildcards)['objective']}"
        ),
    script:
        "../scripts/gradient.py"
