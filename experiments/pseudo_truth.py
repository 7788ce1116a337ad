"""Makes pairs with a flow of videos: that of a classical method, where it is the same back again.

python experiments/pseudo_truth.py VIDEOS -o DIR

Writes what `configs/finetune.yaml` learns from: pairs.csv, and for each folder of frames in VIDEOS
a folder with its frames and flows. The flow is OpenCV's DIS between neighbouring frames; it is left
unknown where going to the source and back ends further away than --within.
"""

import argparse
import itertools
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np

from tfdense.data.sequences import find_sequences
from tfdense.errors import exit_status
from tfdense.images import read_image


def consistent_flow(target: np.ndarray, source: np.ndarray, within: float) -> np.ndarray:
    """Returns the flow from target to source, [height, width, 2], NaN where it does not come back.

    Args:
        target, source: uint8 [height, width, 3].
        within: how far from where it started it may end, in px.
    """
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (target, source)]
    there, back = method.calc(*grey, None), method.calc(*grey[::-1], None)
    height, width = grey[0].shape
    places = there + np.float32(np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1))
    border = {"borderMode": cv2.BORDER_CONSTANT, "borderValue": (np.nan, np.nan)}
    error = np.linalg.norm(
        there + cv2.remap(back, places, None, cv2.INTER_LINEAR, **border), axis=-1
    )
    return np.where((error <= within)[..., None], there, np.nan)


def main() -> int:
    """Writes the pairs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, help="folder of folders of frames")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--within", type=float, default=0.5, metavar="PX")
    arguments = parser.parse_args()
    return exit_status(parser.prog, lambda: _write(arguments))


def _write(arguments: argparse.Namespace) -> None:
    videos = find_sequences(arguments.videos)
    arguments.output.mkdir(parents=True)
    rows = ["source,target,flow"]
    for frames in videos:
        scene = frames[0].parent.name
        (arguments.output / scene).mkdir()
        for frame in frames:
            shutil.copy(frame, arguments.output / scene / frame.name)
        known = []
        for target, source in itertools.pairwise(frames):
            flow = consistent_flow(read_image(target), read_image(source), arguments.within)
            known.append(np.isfinite(flow[..., 0]).mean())
            np.save(arguments.output / scene / f"{target.stem}.npy", flow.astype(np.float32))
            rows.append(f"{scene}/{source.name},{scene}/{target.name},{scene}/{target.stem}.npy")
        print(f"{scene}: {len(known)} pairs, {100 * np.mean(known):.0f} % of the pixels known")
    (arguments.output / "pairs.csv").write_text("\n".join([*rows, ""]))


if __name__ == "__main__":
    sys.exit(main())
