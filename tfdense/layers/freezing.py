"""Which parts of a layer or network are frozen, kept where Keras forgets it."""

from collections.abc import Sequence


class KeepsFrozenParts:
    """A layer or network made of others, whose ``trainable`` are saved, loaded and copied.

    Keras keeps ``trainable`` of what it makes from a configuration, but not of the parts that this
    makes itself: these it would train again.

    Args:
        frozen_parts: which parts are not trained, by their places among all of them, each before
            its own; None leaves them as they are made, but trains none of what is frozen whole.
    """

    def __init__(self, *args, frozen_parts: Sequence[int] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._frozen_parts = None if frozen_parts is None else frozenset(frozen_parts)

    def _post_build(self):
        super()._post_build()
        if self._frozen_parts is not None:
            for place, part in enumerate(self._flatten_layers(include_self=False)):
                part.trainable = place not in self._frozen_parts
        elif not self.trainable:
            self.trainable = False  # of the parts too

    def get_config(self):
        frozen = self._frozen_parts  # some parts are made no earlier than they are built
        if self.built:
            parts = self._flatten_layers(include_self=False)
            frozen = [place for place, part in enumerate(parts) if not part.trainable]
        config = super().get_config()
        return config if frozen is None else {**config, "frozen_parts": sorted(frozen)}
