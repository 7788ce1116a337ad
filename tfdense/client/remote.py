"""Matching with a network that a server runs; the rest of the work is done here."""

import numpy as np

from tfdense.client import Client
from tfdense.errors import InputError
from tfdense.inference.backends import described
from tfdense.inference.modes import Mode
from tfdense.matcher import Matcher
from tfdense.results.answers import check_answer
from tfdense.tiles.spans import Tiles

_OUTPUTS = ("flow", "log_variance", "logits")


class RemoteBackend:
    """The network of a `tfdense serve`, see `tfdense.inference.backends.Backend`."""

    def __init__(self, client: Client, max_side: int):
        self._client = client
        try:
            self.mixture, self.working_size = described(client.description(), max_side)
        except (ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"The server's description of its model is broken: {error}") from None

    def run(self, source: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
        images = {"source": source[None], "target": target[None]}
        answer = self._client.predict("match", images, _OUTPUTS)
        outputs = {name: values[0] for name, values in answer.items()}
        check_answer(outputs, target.shape[:2])
        return outputs


def connect(
    client: Client,
    max_side: int,
    mode: Mode,
    fill: bool,
    refine: bool = True,
    tiles: Tiles = None,
) -> Matcher:
    """Returns a matcher whose network a server runs; the arguments are those of `matcher.load`.

    A server always runs the level at full resolution: `refine` changes nothing.

    Raises:
        InputError: if the server does not answer, or is no `tfdense serve`.
    """
    return Matcher(RemoteBackend(client, max_side), mode, fill, tiles=tiles)
