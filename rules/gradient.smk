# Activations and a loss -> features.


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
