"""What a server accepts, checked before anything is computed."""

import dataclasses

import numpy as np

from tfdense.decoding import header_size
from tfdense.errors import InputError
from tfdense.serving.refusal import Refusal, wrong


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of a request.

    Attributes:
        body: of a request, in bytes, also once it is decompressed.
        pixels: of an image.
        pairs: in a request.
        points: of a pair.
        seconds: until the answer, waiting included; of these, `reading` for the request to come.
        reading: in s.
    """

    body: int = 64 * 2**20
    pixels: int = 2 * 2**20
    pairs: int = 16
    points: int = 100_000
    seconds: float = 60.0
    reading: float = 20.0


def check_request(inputs: dict[str, np.ndarray], limits: Limits) -> int:
    """Makes sure that a request is one that can be computed.

    Of encoded images only the header is read.

    Args:
        inputs: as `tfdense.serving.protocols.tensors.check_inputs` returns them.
        limits: of the server.

    Returns:
        The number of its pairs.

    Raises:
        Refusal: if it is not.
    """
    counts = {name: len(values) for name, values in inputs.items()}
    pairs = counts["source"]
    for name, count in counts.items():
        optional = name.endswith("_mask")
        if count != pairs and not (optional and count == 1):
            raise wrong(f"Expected {pairs} of {name}, as of source. Received: {count}")
    if pairs > limits.pairs:
        raise Refusal(413, f"Expected at most {limits.pairs} pairs. Received: {pairs}")
    for role in ("source", "target"):
        values, mask = inputs[role], inputs.get(f"{role}_mask")
        if values.dtype.kind == "O":
            sizes = [_encoded_size(each, role, limits) for each in values]
            _check_encoded_masks(mask, sizes, f"{role}_mask", limits)
            continue
        size = values.shape[1:3]
        _check_size(size, role, limits)
        if mask is not None and mask.shape[1:] not in (size, (1, 1)):
            raise wrong(f"Expected {role}_mask of {_by(size)}. Received: {_by(mask.shape[1:])}")
    points = inputs.get("target_points")
    if points is not None and points.shape[1] > limits.points:
        raise Refusal(
            413, f"Expected at most {limits.points} points of a pair. Received: {points.shape[1]}"
        )
    return pairs


def _encoded_size(content, name: str, limits: Limits) -> tuple[int, int]:
    if not isinstance(content, bytes):
        raise wrong(f"Expected {name} as bytes.")
    try:
        size = header_size(content, name)
    except InputError as error:
        raise wrong(str(error)) from None
    _check_size(size, name, limits)
    return size


def _check_encoded_masks(masks, sizes: list, name: str, limits: Limits) -> None:
    for mask, size in zip(() if masks is None else masks, sizes, strict=False):
        found = _encoded_size(mask, name, limits) if mask else size
        if sorted(found) != sorted(size):  # the orientation may swap the sides
            raise wrong(f"Expected {name} of {_by(size)}, the image's size. Received: {_by(found)}")


def _check_size(size: tuple[int, int], name: str, limits: Limits) -> None:
    if size[0] * size[1] > limits.pixels:
        raise Refusal(
            413,
            f"Expected {name} of at most {limits.pixels / 1e6:.1f} million pixels. "
            f"Received: {_by(size)}",
        )
    if min(size) < 16:
        raise wrong(f"Expected {name} with sides of at least 16 px. Received: {_by(size)}")


def _by(size) -> str:
    return f"{size[1]}x{size[0]} px"
