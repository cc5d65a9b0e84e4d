# What the rules of models.smk ask.


def any_input(wildcards):
    """What of a definition decides the shapes of gradient and embedding; the length of the input does not."""
    definition = backbone(wildcards)
    options = {key: definition[key] for key in ("family", *family(wildcards).SHAPING)}
    return options | family(wildcards).dataset_options({"target_length": 1024})
