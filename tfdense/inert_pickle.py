"""Reading pickles as plain data: nothing is imported, called or executed.

A pickle is a program for a small stack machine (`pickletools` describes it). Here each of its
instructions only moves plain data; where Python's own would import a class, call a function or set
an object's state, a `StandIn` notes what was asked for.
"""

import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

# Python objects take some 60 times the room of the shortest instructions that ask for them.
_MOST_INSTRUCTIONS = 10_000_000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Sets become lists: nothing is hashed but keys, see `_key`.
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list, "EMPTY_TUPLE": tuple}
_LITERALS = frozenset(
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
    | {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"}
)


class StandIn(dict):
    """What a pickle says of a class, a function, or an object made with one; inert.

    Its items are those that the pickle adds to the object, as to an `OrderedDict`.

    Attributes:
        name: of the class or function, with its module: ``collections.OrderedDict``.
        arguments: what it was called with.
        state: what the object's attributes were set from.
    """

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple = (), state: Any = None):
        super().__init__()
        self.name, self.arguments, self.state = name, arguments, state

    # By identity and name alone: contents may hold themselves, or be as large as a pickle likes.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __repr__(self) -> str:
        return f"<{self.name}>"


def load(file: BinaryIO, persistent_load: Callable[[Any], Any]) -> Any:
    """Reads one pickle, of any protocol.

    Args:
        file: at the pickle's start; is left behind its end. To be safe from lengths that the pickle
            merely claims, its ``read`` must not set aside more than there is, as BytesIO and mmap.
        persistent_load: gives the object that a persistent id stands for.

    Returns:
        Numbers, strings, bytes, lists (for sets, too), tuples, dicts, and a `StandIn` for all else.

    Raises:
        ValueError: if it is no whole pickle, or needs what is outside of it.
    """
    stack, marks, memo = [], [], {}

    def since_mark() -> list:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count == _MOST_INSTRUCTIONS:
                raise ValueError(f"its pickle has more than {count:,} instructions")
            match name := opcode.name:
                case _ if name in _LITERALS:
                    stack.append(argument)
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case "MARK":
                    marks.append(len(stack))
                case _ if name in _EMPTY:
                    stack.append(_EMPTY[name]())
                case _ if name in _CONSTANTS:
                    stack.append(_CONSTANTS[name])
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
                case "TUPLE":
                    stack.append(tuple(since_mark()))
                case "LIST" | "FROZENSET":
                    stack.append(since_mark())
                case "DICT":
                    stack.append(_with_items({}, since_mark()))
                case "SETITEM":
                    items = [stack.pop(-2), stack.pop()]
                    _with_items(stack[-1], items)
                case "SETITEMS":
                    items = since_mark()
                    _with_items(stack[-1], items)
                case "APPEND" | "APPENDS" | "ADDITEMS":
                    items = [stack.pop()] if name == "APPEND" else since_mark()
                    if isinstance(stack[-1], list):
                        stack[-1].extend(items)
                case "GLOBAL":
                    stack.append(StandIn(argument.replace(" ", ".", 1)))
                case "STACK_GLOBAL":
                    stack.append(StandIn(".".join([stack.pop(-2), stack.pop()])))
                case "REDUCE" | "NEWOBJ":
                    stack.append(_called(stack.pop(-2), stack.pop()))
                case "NEWOBJ_EX":
                    keywords = stack.pop()
                    stack.append(_called(stack.pop(-2), (*stack.pop(), keywords)))
                case "INST":
                    stack.append(StandIn(argument.replace(" ", ".", 1), tuple(since_mark())))
                case "OBJ":
                    function, *arguments = since_mark()
                    stack.append(_called(function, tuple(arguments)))
                case "BUILD":
                    state = stack.pop()
                    if isinstance(stack[-1], StandIn):
                        stack[-1].state = state
                case "PERSID":
                    stack.append(persistent_load(argument))
                case "BINPERSID":
                    stack.append(persistent_load(stack.pop()))
                case "POP" if marks and marks[-1] == len(stack):
                    marks.pop()
                case "POP":
                    stack.pop()
                case "POP_MARK":
                    since_mark()
                case "DUP":
                    stack.append(stack[-1])
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case _:  # EXT, which names a class by number; NEXT_BUFFER, a buffer kept elsewhere.
                    raise ValueError(f"its pickle needs what is outside of it ({name})")
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__} in {name})") from None
    raise ValueError("its pickle has no end")


def _called(function: Any, arguments: tuple) -> StandIn:
    if not isinstance(function, StandIn) or not isinstance(arguments, tuple):
        raise TypeError
    return StandIn(function.name, arguments)


def _with_items(mapping: dict, items: list) -> dict:
    if not isinstance(mapping, dict):
        raise TypeError
    if len(items) % 2:
        raise IndexError
    for key, value in zip(items[::2], items[1::2], strict=True):
        mapping[_key(key)] = value
    return mapping


def _key(key: Any) -> Any:
    """Returns the key, or what stands for it: hashing nested tuples may take for ever."""
    plain = key is None or isinstance(key, (str, bytes, int, float, StandIn))
    return key if plain else StandIn(type(key).__name__)
