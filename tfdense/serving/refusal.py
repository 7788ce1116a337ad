"""Why a request is not answered: one error for all protocols."""


class Refusal(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP: 400 what was sent is wrong, 404 there is no such thing, 413 too large, 429
            too many requests, 503 not now, 504 too late.
        reason: one line for the client.
        retry_after: in how many seconds another try may succeed; None if it will not.
    """

    def __init__(self, status: int, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def wrong(reason: str) -> Refusal:
    """A request that is wrong in itself."""
    return Refusal(400, reason)
