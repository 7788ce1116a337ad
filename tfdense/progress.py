"""One line on standard error that says how far a long piece of work is."""

import sys
import time


class Progress:
    """Counts parts of a piece of work, and shows it where somebody watches.

    Args:
        unit: what is counted, in the plural: "pairs".
        total: how many there are; None if that is not known.
        shown: whether to show it; None shows it on a terminal.
    """

    def __init__(self, unit: str, total: int | None = None, shown: bool | None = None):
        self._unit, self._total = unit, total
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._start = time.perf_counter()
        self.count = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        if self._shown and self.count:
            print(file=sys.stderr)

    def advance(self, count: int = 1) -> None:
        """Counts parts that are done."""
        self.count += count
        if self._shown:
            print(f"\r\033[K{self}", end="", file=sys.stderr, flush=True)

    @property
    def rate(self) -> float:
        """Parts a second, so far."""
        return self.count / max(time.perf_counter() - self._start, 1e-9)

    def __str__(self) -> str:
        rate = self.rate
        if self._total is None:
            return f"{self.count} {self._unit}, {rate:.3g}/s"
        left = (self._total - self.count) / max(rate, 1e-9)
        hours, seconds = divmod(round(left), 3600)
        return (
            f"{self.count}/{self._total} {self._unit}, {rate:.3g}/s, "
            f"{hours}:{seconds // 60:02d}:{seconds % 60:02d} left"
        )
