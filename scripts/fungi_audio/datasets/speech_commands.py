"""Speech Commands (P. Warden, 2018), versions 1 and 2, and subsets in its layout.

`{word}/{speaker}_nohash_{n}.wav`, `validation_list.txt` and `testing_list.txt`; all other clips train.
`_background_noise_` is left out. SSAST's ids are ``/m/spcmd`` and two digits in SSAST's order of words.
"""

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .listing import Clip, Label, Listing, find_root, read_text

LISTS = {"validation_list.txt": "valid", "testing_list.txt": "test"}
METADATA = tuple(LISTS)
# fmt: off
WORDS = (
    "backward", "follow", "five", "bed", "zero", "on", "learn",
    "two", "house", "tree", "dog", "stop", "seven", "eight",
    "down", "six", "forward", "cat", "right", "visual", "four",
    "wow", "no", "nine", "off", "three", "left", "marvin",
    "yes", "up", "sheila", "happy", "bird", "go", "one",
)
# fmt: on


def read(folder: Path, options: Mapping[str, Any]) -> Listing:
    """Clips sorted by path; the classes are the words present, in SSAST's order.

    Raises:
        DataError: not Speech Commands' layout, or a folder that is not one of its words.
    """
    root = find_root(folder, "validation_list.txt", "speech_commands")
    words = sorted(child.name for child in root.iterdir() if child.is_dir() and child.name[0] not in "_.")
    unknown = [word for word in words if word not in WORDS]
    if unknown or not words:
        raise DataError(
            f"{root} is not in the layout speech_commands: "
            + (f"{', '.join(unknown[:10])} is none of its words" if unknown else "it has no folder with a word")
            + ". Correct `layout:` (csv takes any folder) or `source:`"
        )
    files = sorted(f"{word}/{file.name}" for word in words for file in (root / word).iterdir() if file.suffix == ".wav")
    parts, problems = _read_lists(root, set(files))
    below = root.relative_to(folder).as_posix()
    clips = [_clip(name, below, parts.get(name, "train"), problems.pop(name, "")) for name in files]
    clips += [Clip(name, "", problem=problem) for name, problem in problems.items()]
    present = [word for word in WORDS if word in words]
    return Listing(clips, [Label(f"/m/spcmd{WORDS.index(word):02d}", word) for word in present])


def _clip(name: str, below: str, split: str, problem: str) -> Clip:
    word, _, file = name.partition("/")
    speaker, hashed, _ = file.partition("_nohash_")
    path = posixpath.normpath(f"{below}/{name}")
    return Clip(name, path, (word,), split=split, problem=problem, group=speaker if hashed else None)


def _read_lists(root: Path, files: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split by clip, and problem by clip, of those that the lists name."""
    parts: dict[str, str] = {}
    problems: dict[str, str] = {}
    for file, split in LISTS.items():
        for entry in read_text(root / file).split("\n"):
            name = entry.strip()
            if name and name not in files:
                problems[name] = f"is in {file}, but there is no such file"
            elif name and parts.setdefault(name, split) != split:
                problems[name] = f"is in {' and in '.join(LISTS)}"
    return parts, problems
