"""Finding out how a folder of pairs with ground truth is arranged."""

import itertools
from collections.abc import Iterable
from pathlib import Path

from tfdense.errors import InputError
from tfdense.evaluation.pairs import UnreadPair
from tfdense.evaluation.readers import STORED, find
from tfdense.evaluation.readers.folders import any_case

# By group of the configuration, the layouts that are looked for, and where a layout shares its
# marker with another one, what it has beside that.
LAYOUTS: dict[str, dict[str, str]] = {
    "flow": {
        "flow-list": "",
        "flow": "",
        "flying-chairs": "",
        "flying-things-clean": "image_clean/*/*.*",
        "flying-things-final": "image_final/*/*.*",
        "sintel-clean": "clean/*/*.*",
        "sintel-final": "final/*/*.*",
        "sintel-sample": "",
        "kitti-2012": "colored_0/*.*",
        "kitti-2015": "image_2/*.*",
        "hd1k": "",
        "viper": "",
        "spring": "",
        "middlebury-flow": "",
        "middlebury-stereo": "",
        "middlebury-2014": "",
        "tss": "",
    },
    "homographies": {"homography": "", "hpatches": ""},
    "matches": {"points": "", "megadepth-1600": "", "robotcar": ""},
}


def find_truth(group: str, folder: str | Path, layout: str = "auto") -> list[UnreadPair]:
    """Lists the pairs with ground truth in a folder.

    Args:
        group: a key of `LAYOUTS`.
        folder: of the data set.
        layout: a name in that group, or ``auto``, which takes all that the folder holds.

    Raises:
        InputError: if there is no such layout, or the folder is of another one.
    """
    known = LAYOUTS[group]
    if layout != "auto" and layout not in known:
        raise InputError(
            f"data.{group}.layout should be auto or one of {', '.join(known)}. Received: {layout}"
        )
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder} (data.{group}.folder).")
    names = (
        [n for n in known if _is_arranged(folder, n, known[n])] if layout == "auto" else [layout]
    )
    pairs = [pair for name in names for pair in find(STORED, name, folder)]
    if not pairs:
        raise _unexpected(folder, known if layout == "auto" else names)
    return pairs


def group_of(folder: Path) -> str:
    """Tells which ground truth a folder holds, a key of `LAYOUTS`.

    Raises:
        InputError: if none.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder of pairs with ground truth. Received: {folder}")
    for group, known in LAYOUTS.items():
        if any(_is_arranged(folder, name, more) for name, more in known.items()):
            return group
    raise _unexpected(folder, itertools.chain(*LAYOUTS.values()))


def _is_arranged(folder: Path, name: str, more: str) -> bool:
    patterns = [STORED[name].marker, more]
    return all(any(folder.glob(any_case(p))) for p in patterns if p)


def _unexpected(folder: Path, names: Iterable[str]) -> InputError:
    found = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    shown = ", ".join(found[:6]) + ", ..." * (len(found) > 6)
    names = list(names)
    if len(names) > 3:
        expected = f"one of {', '.join(names)} (arranged as `tfdense evaluate -h` says)"
    else:
        expected = "; or ".join(f"{name}: {STORED[name].layout}" for name in names)
    if any(folder.glob("*/source.*")):
        shown += ", with images but no ground truth beside them"
    return InputError(
        f"No pairs with ground truth in {folder}. Expected {expected}. "
        f"Received: {shown or 'nothing'}."
    )
