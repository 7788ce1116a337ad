"""Which parts of a layer or network are frozen, kept where Keras forgets it."""

import operator
from collections.abc import Iterable, Sequence


class KeepsFrozenParts:
    """A layer or network made of others, whose ``trainable`` are saved, loaded and copied.

    Keras keeps ``trainable`` of what it makes from a configuration, but not of the parts that this
    makes itself: these it would train again. A configuration knows the parts once they are built.

    Args:
        frozen_parts: which parts are not trained, by their places among all of them, each before
            its own; the others stay as they are made. None freezes all of what is frozen whole.

    Raises:
        ValueError: if these are no places, or, as it is built, if there are no such parts.
    """

    def __init__(self, *args, frozen_parts: Sequence[int] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._frozen_parts = None if frozen_parts is None else _places(frozen_parts)

    def _post_build(self):
        super()._post_build()
        parts = self._flatten_layers(include_self=False)
        if self._frozen_parts is None:
            # One by one: Keras passes over what is set to the value that it has.
            frozen = [] if self.trainable else [*parts, *self._trainable_variables]
        elif missing := [place for place in self._frozen_parts if place >= len(parts)]:
            raise ValueError(
                f"`frozen_parts` must be below {len(parts)}, which is how many parts "
                f"{self.name} has. Received: {missing}"
            )
        else:
            frozen = [parts[place] for place in self._frozen_parts]
        for part in frozen:
            part.trainable = False

    def get_config(self):
        frozen = self._frozen_parts
        if self.built:
            parts = self._flatten_layers(include_self=False)
            frozen = [place for place, part in enumerate(parts) if not part.trainable]
        config = super().get_config()
        return config if frozen is None else {**config, "frozen_parts": frozen}


def _places(parts: Iterable) -> list[int]:
    try:
        if isinstance(parts, str | bytes) or any(isinstance(part, bool) for part in parts):
            raise TypeError
        places = sorted({operator.index(part) for part in parts})
    except TypeError:
        places = [-1]
    if places and places[0] < 0:
        raise ValueError(f"`frozen_parts` must be whole numbers from 0 on. Received: {parts!r}")
    return places
