# What the rules of inputs.smk ask.
from fungi_audio import frontends


def inputs_share(wildcards):
    """Clips, and seconds of each; one length for all stands in the name of the cache."""
    frames = wildcards.inputs.rpartition("-")[2]
    seconds = (
        int(frames) / 100
        if frames.isdecimal()
        else cost.clip_seconds(dataset(wildcards))
    )
    return cost.clips(dataset(wildcards)), seconds


def inputs_memory(wildcards):
    values = frontends.kind_of(wildcards.inputs).values
    return cost.inputs_mb(*inputs_share(wildcards), values, cores=8)
