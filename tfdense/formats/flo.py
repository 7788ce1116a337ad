"""Middlebury's flow, see `tfdense.flow_files`."""

from pathlib import Path

from tfdense.flow_files import encode_flow


def write(path: Path, match, threshold: float, cycle: float | None) -> None:
    """Writes the flow of all pixels."""
    path.write_bytes(encode_flow(match.flow))
