"""What each mode does in the steps of `tfdense.inference.pipeline`, as data.

- *direct*: matches once.
- *multiscale*: what PDC-Net's authors publish most figures of. Matches the source warped by
  the homography that most agree with as either image is shrunk by several ratios.
- *wide-baseline*: seeks it at any turn, too, twelve times at a small size, and four times at the
  working size if that does not help; refines it as long as the network gets more confident.
- *plane*: the same, and follows it everywhere: for pictures of a plane, such as documents and maps,
  and from a camera that only turned.
"""

import itertools
import math
from typing import Literal, NamedTuple

from tfdense.errors import InputError, shown

Mode = Literal["direct", "multiscale", "wide-baseline", "plane"]
_FORMER = {"homography": "wide-baseline, or multiscale to compare with its authors' figures"}


class View(NamedTuple):
    """How two images are shown to the network: the source turned, either of them shrunk.

    Attributes:
        turns: quarter turns of the source.
        source_scale, target_scale: at most 1.
    """

    turns: int = 0
    source_scale: float = 1.0
    target_scale: float = 1.0


PLAIN = View()


class Search(NamedTuple):
    """A search for a first homography: that of the best of several views.

    Attributes:
        views: to try.
        frame: where in a black frame a shrunk image stands.
        side: of the frame's longer side, in px; None takes the working size.
        enough: mean confidence from which on there is no need of this search.
        distance: the largest of a match that agrees with the homography, in px.
        least_score: what the best view must exceed. The score is the share of the target's pixels
            whose matches agree.
        weighted: whether the score is that, times the mean confidence.
    """

    views: tuple[View, ...]
    frame: Literal["middle", "corner"] = "middle"
    side: int | None = None
    enough: float = math.inf
    distance: float = 2.0
    least_score: float = 0.0
    weighted: bool = True


class Plan(NamedTuple):
    """What a mode does.

    Attributes:
        searches: one after the other propose a homography; without any the network runs once.
        refinements: how often at most the best homography is refined; without any the proposed
            one is taken unseen.
        plane: whether all pixels get the flow of the homography that most matches follow.
    """

    searches: tuple[Search, ...] = ()
    refinements: int = 0
    plane: bool = False


# The authors' numbers. By a ratio the target is shrunk, or the source by the reciprocal of one
# larger than 1.
_RATIOS = (0.5, 0.6, 0.88, 1.0, 1.33, 1.66, 2.0)
_SCALES = Search(
    tuple(View(0, min(1.0, 1 / ratio), min(1.0, ratio)) for ratio in _RATIOS),
    "corner",
    distance=1.0,
    least_score=0.002,
    weighted=False,
)
_TURNS = Search(
    tuple(
        View(turns, *scales)
        for turns, scales in itertools.product(range(4), ((1, 1), (1 / 3, 1), (1, 1 / 3)))
    ),
    side=416,
)
_CLOSER = Search(
    (View(0, 0.6, 1), View(0, 1, 0.6), View(0, 1 / 4, 1), View(0, 1, 1 / 4)), enough=0.2
)

MODES = {
    "direct": Plan(),
    "multiscale": Plan((_SCALES,)),
    "wide-baseline": Plan((_TURNS, _CLOSER), refinements=3),
    "plane": Plan((_TURNS, _CLOSER), refinements=3, plane=True),
}


def check_mode(name: str) -> Mode:
    """Returns the name of a mode.

    Raises:
        InputError: if there is none, or no longer.
    """
    if isinstance(name, str) and name in _FORMER:
        raise InputError(f"There is no mode {name} any more. Take {_FORMER[name]}.")
    if not isinstance(name, str) or name not in MODES:
        raise InputError(f"Expected a mode of {', '.join(MODES)}. Received: {shown(name)}")
    return name
