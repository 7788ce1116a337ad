"""Named choices between speed and accuracy: how much the network sees, and how often it runs."""

from typing import NamedTuple

from tfdense.errors import InputError
from tfdense.inference.modes import Mode
from tfdense.inference.spans import Tiles, checked


class Setting(NamedTuple):
    """How a network is used.

    Attributes:
        max_side: of what the network sees, in px.
        mode: see `tfdense.inference.modes`.
        fill: whether uncertain pixels get another flow, see `tfdense.inference.filling`.
        refine: whether a network that has a level at full resolution runs it.
        tiles: into which a larger target is cut, see `tfdense.inference.matcher.Matcher.match`.
    """

    max_side: int
    mode: Mode
    fill: bool = False
    refine: bool = True
    tiles: Tiles = False


SETTINGS = {
    "turbo": Setting(320, "direct", refine=False),
    "fast": Setting(480, "direct"),
    "base": Setting(640, "direct"),
    "precise": Setting(960, "wide-baseline", fill=True),
}


def resolve(
    name: str,
    max_side: int | None,
    mode: Mode | None,
    fill: bool | None,
    tiles: Tiles = None,
) -> Setting:
    """Returns a setting by name, with what is given in place of its own values.

    Raises:
        InputError: if there is no such setting, or there are no such tiles.
    """
    if name not in SETTINGS:
        raise InputError(f"Expected a setting of {', '.join(SETTINGS)}. Received: {name!r}")
    given = {"max_side": max_side, "mode": mode, "fill": fill}
    given["tiles"] = None if tiles is None else checked(tiles)
    return SETTINGS[name]._replace(**{k: value for k, value in given.items() if value is not None})
