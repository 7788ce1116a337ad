"""A server whose answers are known."""

from known_server import serving

__all__ = ["serving"]
