"""Checking what an exported model says of itself, before anything is built on it.

Needs nothing but Python, since it runs on devices too.
"""

import json


def check_description(description, *sizes: str) -> dict:
    """Makes sure that a description can be relied on.

    Args:
        description: what was read from JSON.
        sizes: the keys that must be there: "size" is [height, width], others are single numbers.

    Returns:
        The description.

    Raises:
        ValueError: if it is no dictionary, or a size is missing or not positive.
    """
    if not isinstance(description, dict):
        raise ValueError("its description is none")
    for key in sizes:
        value = description.get(key)
        numbers = value if key == "size" else [value]
        whole = isinstance(numbers, list) and len(numbers) == (2 if key == "size" else 1)
        if not whole or not all(type(number) is int and number > 0 for number in numbers):
            raise ValueError(f"its description has no {key}: {value}")
    return description


def parse_description(content: bytes | str):
    """Reads JSON.

    Raises:
        ValueError: if it is none.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("its description is no JSON") from None
