"""Named choices between speed and accuracy: how much the network sees, and how it is used."""

import argparse
from collections.abc import Collection
from typing import NamedTuple

from tfdense.checks import check_fill, check_side
from tfdense.errors import InputError, shown
from tfdense.inference.modes import MODES, Mode, check_mode
from tfdense.options import one
from tfdense.tiles.spans import Tiles, checked, read_tiles


class Setting(NamedTuple):
    """How a network is used.

    Attributes:
        max_side: of what the network sees, in px.
        mode: see `tfdense.inference.modes`.
        fill: whether uncertain pixels get another flow, see `tfdense.inference.filling`.
        refine: whether a network that has a level at full resolution runs it.
        tiles: into which a larger target is cut, see `tfdense.matcher.Matcher.match`.
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
    "plane": Setting(640, "plane"),
}
DEFAULT = "base"

_FINER_OPTIONS = {
    "--max-side": {
        "type": int,
        "metavar": "N",
        "help": "longer side of what the network sees, in px",
    },
    "--fill": {
        "action": argparse.BooleanOptionalAction,
        "help": "give uncertain pixels the flow of the certain ones around them",
    },
    "--tiles": {
        "type": one(read_tiles),
        "metavar": "N",
        "help": "match large targets in tiles, too: auto, 2x3 (two rows of three) or none",
    },
    "--mode": {"type": one(check_mode), "help": " or".join(", ".join(MODES).rsplit(",", 1))},
}


def resolve(
    name: str,
    max_side: int | None = None,
    mode: Mode | None = None,
    fill: bool | None = None,
    tiles: Tiles = None,
) -> Setting:
    """Returns a setting by name, with what is given in place of its own values.

    Raises:
        InputError: if there is no such setting or mode, there are no such tiles, `max_side` is no
            whole number or `fill` neither True nor False.
    """
    if not isinstance(name, str) or name not in SETTINGS:
        raise InputError(f"Expected a setting of {', '.join(SETTINGS)}. Received: {shown(name)}")
    given = {"max_side": max_side, "mode": mode, "fill": fill, "tiles": tiles}
    checks = {"max_side": check_side, "mode": check_mode, "fill": check_fill, "tiles": checked}
    return SETTINGS[name]._replace(
        **{part: checks[part](value) for part, value in given.items() if value is not None}
    )


def add_setting(parser: argparse.ArgumentParser, default: str | None = DEFAULT) -> None:
    """Adds the option that chooses a setting to those of a command."""
    parser.add_argument(
        "--setting",
        choices=SETTINGS,
        default=default,
        metavar="NAME",
        help="turbo, fast or base, from fast to exact; precise, for large changes of view; plane, "
        f"for documents, maps and panoramas ({default or DEFAULT})",
    )


def add_finer_options(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Adds the options that stand in place of a setting's values, but some, as a group."""
    group = parser.add_argument_group("in place of what the setting says")
    for name, option in _FINER_OPTIONS.items():
        if name not in without:
            group.add_argument(name, **option)


def chosen(arguments: argparse.Namespace) -> Setting:
    """Returns what the options say, those that a command has.

    Raises:
        InputError: see `resolve`.
    """
    tiles = getattr(arguments, "tiles", None)
    name = arguments.setting or DEFAULT
    return resolve(name, arguments.max_side, arguments.mode, arguments.fill, tiles)
