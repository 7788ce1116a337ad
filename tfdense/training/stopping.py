"""Stopping a training when the user, or a scheduler, asks for it."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Stop(threading.Event):
    """Set once the training is asked to stop.

    Attributes:
        signal: the number of the signal that asked; None so far.
        at_once: whether there is nothing to save yet: then it interrupts whatever is done.
    """

    signal: int | None = None
    at_once: bool = False


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Stop]:
    """Turns the first Ctrl-C or SIGTERM into an event; the next Ctrl-C interrupts at once."""
    event = Stop()
    former = {}

    def stop(number, frame):
        event.signal = number
        event.set()
        if event.at_once:
            raise KeyboardInterrupt
        print("\nStopping after this step. Ctrl-C again to stop at once.", flush=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is threading.main_thread():
        former = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
