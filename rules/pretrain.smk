# Log-mels of one or several datasets -> an SSAST trained on masked patches.


def pretraining(wildcards):
    return config["pretrain"][wildcards.pretraining]


def pretrain_files(template):
    """One file for each dataset of a pretraining definition."""
    return lambda wildcards: [
        template.format(dataset=name, frames=pretraining(wildcards)["target_length"])
        for name in pretraining(wildcards)["datasets"]
    ]


def pretrain_seconds(wildcards):
    settings = pretraining(wildcards)
    samples = settings["epochs"] * sum(
        cost.clips(config["datasets"][name]) for name in settings["datasets"]
    )
    passes = samples * (2 if settings["objective"] == "joint" else 1)
    patch = (16, 16) if settings["kind"] == "patch" else (128, 2)
    shape = cost.Trunk(cost.WIDTHS[settings["size"]], patch=patch, stride=patch)
    rate = cost.rate(config["cluster"], config["device"], cores=8)
    return cost.training_seconds(passes, settings["target_length"], shape, rate)


rule pretrain:
    input:
        clips=pretrain_files("results/{dataset}/clips.parquet"),
        fbank=pretrain_files("results/{dataset}/fbank-{frames}.npy"),
        statistics=pretrain_files("results/{dataset}/fbank-{frames}.json"),
    output:
        pth="results/pretrain/{pretraining}/checkpoint.pth",
        safetensors="results/pretrain/{pretraining}/checkpoint.safetensors",
        curves="results/pretrain/{pretraining}/curves.csv",
        plots=[
            reported(
                "results/pretrain/{pretraining}/curves.svg",
                "curves",
                run="{pretraining}",
            ),
            "results/pretrain/{pretraining}/curves.png",
        ],
    log:
        "logs/pretrain/{pretraining}.log",
    benchmark:
        "results/benchmarks/pretrain/{pretraining}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 8
    resources:
        **gpu_job(
            pretrain_seconds,
            4 * cost.TORCH_MB,
            gpus=config["cluster"]["training_gpus"],
        ),
    params:
        settings=pretraining,
        seed=config["seed"],
        device=config["device"],
        precision=config["precision"],
        code=code_digest("training.pretrain", "training.publish"),
    script:
        "../scripts/pretrain.py"
