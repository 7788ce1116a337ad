"""Client of `tfdense serve` and of TensorFlow Serving; needs neither TensorFlow nor Keras.

    with Client("http://127.0.0.1:8501") as client:
        answer = client.match("source.jpg", "target.jpg")

`AsyncClient` has the same methods, to be awaited.
"""

import asyncio
import inspect
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfdense.checks import check_names, key_points
from tfdense.client.calls import Call, Caller, NoAnswer, Send, ServerError, tensors
from tfdense.client.transports import Address, connect
from tfdense.errors import InputError, shown
from tfdense.serving.tokens import check_token

__all__ = ["AsyncClient", "Client", "ServerError"]

_DENSE = ("flow", "confidence", "log_variance", "logits")
_SERVED = (b"\xff\xd8", b"\x89PNG")  # how the files begin that a server decodes


class _Client:
    """What both clients share: each method returns what `_perform` makes of a call."""

    _is_async = False

    def __init__(
        self,
        url: str,
        name: str | None = None,
        *,
        protocol: str | None = None,
        version: int | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        token: str | None = None,
        verify: str | bool = True,
    ):
        """Connects on the first call.

        Args:
            url: ``http://HOST:PORT``, ``https://...``, ``grpc://...`` or ``grpcs://...``.
            name: of the model; may be left out for `tfdense serve` over HTTP.
            protocol: "open-inference" (as bytes; the default of HTTP), "rest" (TensorFlow
                Serving's JSON) or "grpc" (that of grpc://).
            version: of the model; None takes the newest.
            timeout: of a call, repetitions included, in s; at most 1,000,000.
            retries: how often a call is repeated that is refused for a while (429, 503), or whose
                connection fails.
            token: that requests bear: visible ASCII characters.
            verify: a file (PEM) of certificates to trust, or False to trust any, which gRPC never
                does.

        Raises:
            InputError: if that is no such server or a setting none, or a package is missing.
        """
        server = Address.of(url)
        is_rpc = server.scheme.startswith("grpc")
        if protocol is None:
            protocol = "grpc" if is_rpc else "open-inference"
        if (protocol == "grpc") != is_rpc:
            raise InputError(
                "Expected grpc:// for gRPC, else http://. "
                f"Received: {server.shown}, {shown(protocol)}"
            )
        if token is not None:
            check_token(token)
        self._caller = Caller(server.shown, name, protocol, version, timeout, retries)
        self._transport = connect(server, token, verify, self._is_async)

    def predict(
        self, signature: str, inputs: Mapping[str, Any], outputs: tuple[str, ...] = ()
    ) -> dict[str, np.ndarray]:
        """Calls a signature.

        Args:
            signature: its name: "match", "match_encoded" or "match_points"; with "_masked" behind
                it takes masks.
            inputs: by name, arrays or lists of bytes.
            outputs: the names of those wanted, a sequence; none means all.

        Returns:
            The outputs by name.

        Raises:
            ServerError: if the server refuses, does not answer, or not by the protocol.
            InputError: if the arguments are of another kind.
        """
        outputs = tuple(check_names("outputs as a sequence of names", outputs))
        return self._perform(self._caller.predict(signature, tensors(inputs), outputs))

    def match(self, source, target, source_mask=None, target_mask=None) -> dict[str, np.ndarray]:
        """Matches two images at the target's own size.

        Args:
            source, target: paths, bytes of files, or arrays [height, width, 3] in 0..255; what
                overshoots these a little, as resizing leaves it, is clipped.
            source_mask, target_mask: which pixels count, likewise.

        Returns:
            "flow" [height, width, 2], "confidence" [height, width], "log_variance" and "logits"
            [height, width, components]; as of `tfdense.results.match.Match`, with R = 1 px.

        Raises:
            ServerError: if the server refuses, or does not answer.
            InputError: if an image cannot be read.
        """
        inputs = _encoded(source, target, source_mask, target_mask)
        return self._perform(self._match(inputs))

    def match_points(
        self, source, target, points, source_mask=None, target_mask=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the places in the source of points of the target.

        Args:
            source, target, source_mask, target_mask: as of `match`.
            points: (x, y) in px of the target, [count, 2]; of none the server is not asked.

        Returns:
            Their places (x, y) in px of the source [count, 2], and the confidence [count], which
            is 0 outside of the target.

        Raises:
            ServerError: if the server refuses, or does not answer.
            InputError: if an image cannot be read, or the points are none.
        """
        points = key_points("target", points)
        inputs = _encoded(source, target, source_mask, target_mask)
        inputs["target_points"] = np.float32(points)[None]
        return self._perform(self._match_points(inputs))

    def description(self) -> dict:
        """Returns what the export says of itself, which `tfdense serve` tells.

        Raises:
            ServerError: if the server does not know it, or does not answer.
        """
        return self._perform(self._caller.description())

    def ready(self) -> bool:
        """Returns whether the server answers requests now."""
        return self._perform(self._caller.ready())

    def _match(self, inputs: dict) -> Call:
        outputs = yield from self._call("match_encoded", inputs)
        with self._caller.understanding():
            # Former exports match images of one size only and do not say it.
            sizes = outputs.get("target_size", [outputs["confidence"].shape[1:]])
            height, width = sizes[0]
            return {name: outputs[name][0, :height, :width] for name in _DENSE}

    def _match_points(self, inputs: dict) -> Call:
        if not inputs["target_points"].size:
            return np.empty((0, 2), np.float32), np.empty(0, np.float32)
        outputs = yield from self._call("match_points", inputs)
        with self._caller.understanding():
            return outputs["source_points"][0], outputs["confidence"][0]

    def _call(self, signature: str, inputs: dict) -> Call:
        """Calls a signature, or its twin if there is a mask, which wants both."""
        masks = {"source_mask": [b""], "target_mask": [b""]}  # empty: all pixels count
        if masks.keys() & inputs.keys():
            signature, inputs = f"{signature}_masked", {**masks, **inputs}
        return self._caller.predict(signature, tensors(inputs), ())

    def _perform(self, call: Call):
        raise NotImplementedError


class Client(_Client):
    """Waits for each answer; threads may share it."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        """Ends the connections."""
        self._transport.close()

    def _perform(self, call: Call):
        step, value = call.send, None
        while True:
            try:
                wanted = step(value)
            except StopIteration as end:
                return end.value
            step, value = call.send, None
            if isinstance(wanted, Send):
                try:
                    value = self._transport.send(wanted)
                except NoAnswer as error:
                    step, value = call.throw, error
            else:
                time.sleep(wanted.seconds)


class AsyncClient(_Client):
    """The same with methods to be awaited; reading and encoding images is not."""

    _is_async = True

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def close(self) -> None:
        """Ends the connections."""
        closing = self._transport.close()
        if inspect.isawaitable(closing):
            await closing

    async def _perform(self, call: Call):
        step, value = call.send, None
        while True:
            try:
                wanted = step(value)
            except StopIteration as end:
                return end.value
            step, value = call.send, None
            if isinstance(wanted, Send):
                try:
                    value = await self._transport.send(wanted)
                except NoAnswer as error:
                    step, value = call.throw, error
            else:
                await asyncio.sleep(wanted.seconds)


def _encoded(source, target, source_mask, target_mask) -> dict[str, Any]:
    """Returns images as files that a server decodes, and their masks."""
    from tfdense.images import encode_image, load_image, load_mask

    inputs, images = {}, {"source": (source, source_mask), "target": (target, target_mask)}
    for role, (image, mask) in images.items():
        content = _file(image)
        photo = None
        if content is None:
            photo = load_image(image, role)
            content = encode_image(f"{role}.png", photo.pixels)
        inputs[role] = [content]
        used = None if photo is None else photo.mask
        if mask is not None:
            size = load_image(content, role).pixels.shape[:2]
            given = load_mask(mask, size, f"mask of the {role}")
            used = given if used is None else given & used
        if used is not None:
            white = np.repeat(255 * used[..., None].astype(np.uint8), 3, axis=-1)
            inputs[f"{role}_mask"] = [encode_image("mask.png", white)]
    return inputs


def _file(image) -> bytes | None:
    """Returns the bytes of an image that is a file which servers decode."""
    if isinstance(image, (str, os.PathLike)) and os.path.isfile(image):
        image = Path(image).read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)) and bytes(image[:4]).startswith(_SERVED):
        return bytes(image)
    return None
