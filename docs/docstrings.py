"""Prepares docstrings for the site: an extension of what reads them, griffe."""

import re
import textwrap

import griffe

_EXAMPLE = re.compile(r"^For example:\n\n(.*?)(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"^Call:\n((?: .*\n?)+)", re.MULTILINE)
_ENTRY = re.compile(r"^    (?=\w+(?:, \w+)*: |Returns )", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Turns "For example:" into the section that griffe knows, and "Call:" into a list."""

    def on_instance(self, *, obj, **_):
        if obj.docstring:
            text = _EXAMPLE.sub(_as_section, obj.docstring.value)
            obj.docstring.value = _CALL.sub(_as_list, text)


def _as_section(example: re.Match) -> str:
    return f"Examples:\n{textwrap.indent(example[1], '    ')}"


def _as_list(call: re.Match) -> str:
    return "Call:\n" + _ENTRY.sub("    - ", call[1])
