# What a job asks the cluster for: memory and run time that grow with every attempt, and the site's
# partition, account, constraint and options (config `cluster:`). A rule says
#
#     resources:
#         **gpu_job(seconds, mb)       or       **cpu_job(seconds, mb)
#
# with the cost model's prediction: a number, or a function of the wildcards. Keys that are None do not
# reach sbatch; a local run ignores all but `gpu` and `mem_mb`, and those only under `--resources`.
from fungi_audio import cost


def cpu_job(seconds=0, mb=cost.PYTHON_MB):
    return ask(seconds, mb, partition="cpu")


def gpu_job(seconds, mb, gpus=1):
    """A job with `gpus` GPUs on one node; a CPU job when the config's device is the CPU."""
    if config["device"] == "cpu":
        return cpu_job(seconds, mb)
    site = config["cluster"]
    return ask(seconds, mb, partition="gpu") | {
        "gpu": gpus,
        "gpu_model": site["gpu_model"],
        "nodes": 1,
        "constraint": site["constraint"],
    }


def ask(seconds, mb, partition):
    site = config["cluster"]
    return {
        "mem_mb": lambda wildcards, attempt: attempt * predicted(mb, wildcards),
        "runtime": lambda wildcards, attempt: cost.minutes(predicted(seconds, wildcards), attempt),
        "slurm_partition": site["partition"][partition],
        "slurm_account": site["account"],
        "slurm_extra": site["extra"] or None,
    }


def predicted(value, wildcards):
    return value(wildcards) if callable(value) else value
