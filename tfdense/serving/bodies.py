"""Reading the body of a request, and no more of it than the server takes."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from tfdense.serving.limits import Limits
from tfdense.serving.refusal import Refusal, wrong

_GZIP = 31  # zlib's number for it


async def read_body(request: Request, limits: Limits, keep: bool = True) -> bytes:
    """Reads a body within the limits of size and time.

    Args:
        request: whose body is read.
        limits: of the server.
        keep: False reads it for the connection's sake only.

    Raises:
        Refusal: if it is too large or too slow, or packed otherwise than by gzip.
    """
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding not in ("identity", "gzip"):
        raise Refusal(415, f"Expected no Content-Encoding but gzip. Received: {encoding[:40]!r}")
    stated = request.headers.get("Content-Length", "0")
    if stated.isdecimal() and int(stated) > limits.body:
        raise _too_large(limits)
    body = bytearray()
    chunks = _unpacked(request.stream(), limits) if encoding == "gzip" else request.stream()
    try:
        async with asyncio.timeout(limits.reading):
            async for chunk in chunks:
                if keep:
                    body += chunk
                if len(body) > limits.body:
                    raise _too_large(limits)
    except TimeoutError:
        raise Refusal(408, f"The request did not come within {limits.reading:g} s.") from None
    except ClientDisconnect:
        raise Refusal(499, "The client has gone.") from None
    return bytes(body)


async def _unpacked(chunks: AsyncIterator[bytes], limits: Limits) -> AsyncIterator[bytes]:
    """Unpacks gzip, and no more of it than a body may have."""
    unpacker = zlib.decompressobj(_GZIP)
    async for chunk in chunks:
        while chunk:
            try:
                yield unpacker.decompress(chunk, limits.body + 1)
            except zlib.error:
                raise wrong("The body is no gzip.") from None
            chunk = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise wrong("The body's gzip ends too early.")


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"Expected a body of at most {limits.body} bytes.")
