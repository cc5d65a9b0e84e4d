"""ESC-50 (K. J. Piczak, 2015), archive of the repository karolpiczak/ESC-50, and subsets in its layout.

`audio/{fold}-{clip}-{take}-{target}.wav` and `meta/esc50.csv` with filename, fold, target, category and src_file, the
recording that a clip is cut from (its group); five folds fixed by the author. SSAST's ids are ``/m/07rwj`` and the
two digits of the target.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .csv import read_table
from .listing import Clip, Label, Listing, find_root

TABLE = "meta/esc50.csv"
METADATA = (TABLE,)
FOLDS = range(1, 6)
TARGETS = range(50)


def read(folder: Path, options: Mapping[str, Any]) -> Listing:
    """Clips in the order of the table; the classes are those present, in the order of their target.

    Raises:
        DataError: not ESC-50's layout, or a target with two categories.
    """
    root = find_root(folder, TABLE, "esc50")
    lines = read_table(root / TABLE, "filename", "fold", "target", "category")
    audio = (root / "audio").relative_to(folder).as_posix()
    names: dict[int, str] = {}
    clips = []
    for line in lines:
        name, problem = line["filename"], _problem(line)
        if not problem and names.setdefault(int(line["target"]), line["category"]) != line["category"]:
            raise DataError(
                f"{root / TABLE}: target {line['target']} is {names[int(line['target'])]!r} and, for {name}, "
                f"{line['category']!r}"
            )
        clips.append(
            Clip(name, f"{audio}/{name}", problem=problem)
            if problem
            else Clip(
                name, f"{audio}/{name}", (line["category"],), int(line["fold"]), group=line.get("src_file") or None
            )
        )
    classes = [Label(f"/m/07rwj{target:02d}", names[target]) for target in sorted(names)]
    if len({label.name for label in classes}) < len(classes):
        raise DataError(f"{root / TABLE}: one category has two targets: {', '.join(names.values())}")
    return Listing(clips, classes)


def _problem(line: Mapping[str, str]) -> str:
    if "/" in line["filename"] or "\0" in line["filename"] or line["filename"] in ("", ".", ".."):
        return "is not a file name"
    if line["fold"] not in map(str, FOLDS):
        return f"has the fold {line['fold']!r}; ESC-50 has 1 to 5"
    if line["target"] not in map(str, TARGETS):
        return f"has the target {line['target']!r}; ESC-50 has 0 to 49"
    return "" if line["category"] else "has an empty category"
