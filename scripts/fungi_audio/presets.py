"""The public SSAST checkpoints by name (Y. Gong's release; digests are recorded at the first download)."""

_DROPBOX = {
    "ssast-base-patch-400": "ewrzpco95n9jdz6/SSAST-Base-Patch-400.pth",
    "ssast-base-frame-400": "nx6nl4d4bl71sm8/SSAST-Base-Frame-400.pth",
    "ssast-base-patch-250": "mxrm9qog6aj8hif/SSAST-Base-Patch-250.pth",
    "ssast-base-frame-250": "4e6l7ulhwrfoana/SSAST-Base-Frame-250.pth",
    "ssast-small-patch-400": "i24w446rl9pkf05/SSAST-Small-Patch-400.pth",
    "ssast-tiny-patch-400": "fkbtf78y94113wz/SSAST-Tiny-Patch-400.pth",
    "ssast-tiny-frame-400": "rx7g60ruzawffzv/SSAST-Tiny-Frame-400.pth",
    "ssast-ablation-100-masked": "0oyrtfbjzkwho2p/audio_model_100m.pth",
    "ssast-ablation-discriminative": "znuzgwf2zvrpjkr/audio_model_dis.pth",
    "ssast-ablation-generative": "u6ws5fjrid10x4p/audio_model_gen.pth",
    "ssast-ablation-audioset-20k": "y6x2ck2ca3tb7d9/audio_model_as20k.pth",
    "ssast-ablation-audioset-2m": "m9p782df3faql1q/audio_model_as.pth",
    "ssast-ablation-librispeech": "f4bn2qelu3m8ksu/audio_model_librispeech.pth",
}
PRESETS = {name: f"https://www.dropbox.com/s/{path}?dl=1" for name, path in _DROPBOX.items()}
