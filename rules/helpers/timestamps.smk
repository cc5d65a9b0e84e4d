# What the rules of timestamps.smk ask.


def timestamps_share(wildcards):
    clips = cost.clips(dataset(wildcards)) / shard_count(wildcards.dataset, "clean")
    return clips, 1, clip_seconds(wildcards), shape_of(wildcards.backbone)


def timestamps_cost(wildcards):
    return cost.encode_seconds(*timestamps_share(wildcards), extraction_rate(8))


def timestamps_memory(wildcards):
    return cost.encode_mb(*timestamps_share(wildcards))
