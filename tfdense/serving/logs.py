"""Logs of one JSON object a line, on standard error."""

import json
import logging
import sys
import time

_LOGGER = logging.getLogger("tfdense.serving")


def start_logging(level: str = "INFO") -> None:
    """Writes what `log` gets to standard error, and warnings of the libraries beside it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json())
    for name in ("tfdense.serving", "uvicorn", "grpc"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name == "tfdense.serving" else "WARNING")


def log(event: str, level: int = logging.INFO, **fields) -> None:
    """Writes what happened, with what belongs to it."""
    _LOGGER.log(level, event, extra={"fields": fields})


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
