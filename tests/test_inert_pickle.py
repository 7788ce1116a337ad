"""Pickles as plain data: what is read, and what never happens, whatever they hold."""

import argparse
import collections
import copyreg
import datetime
import io
import os
import pickle
import pickletools
import sys
import time
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfdense import inert_pickle
from tfdense.inert_pickle import StandIn


def _load(content):
    def refuse(identity):
        raise ValueError(f"persistent id {identity!r}")

    return inert_pickle.load(io.BytesIO(content), refuse)


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=300)
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(_SCALARS, inner, max_size=4)
    ),
)


def _plain(value):
    """Undoes what stands for bytes in protocols that know none."""
    match value:
        case StandIn(name="_codecs.encode", arguments=(text, "latin1")):
            return text.encode("latin-1")
        case StandIn(name="builtins.bytes" | "__builtin__.bytes"):
            return b""
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(map(_plain, value))
    return value


@settings(deadline=None)
@given(value=_VALUES, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_of_any_protocol_is_read_as_pickle_does(value, protocol):
    content = pickle.dumps(value, protocol)
    read = _plain(_load(content))
    assert read == pickle.loads(content)
    # Also the types: True is equal to 1.
    assert repr(read) == repr(pickle.loads(content))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_is_shared_or_holds_itself_stays_so(protocol):
    shared = [1, 2.5]
    shared.append(shared)
    content = pickle.dumps({"shared": (shared, shared), "sets": [{1}, frozenset({2})]}, protocol)
    read = _load(content)
    first, second = read["shared"]
    assert first is second and first[2] is first and first[:2] == [1, 2.5]
    if protocol >= 4:
        assert read["sets"] == [[1], [2]]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_objects_become_what_the_pickle_says_of_them(protocol):
    day = datetime.date(2020, 1, 2)
    values = [
        argparse.Namespace(rate=0.1),
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        day,
        len,
        np.float64(1.5),
        range(3),
    ]
    read = _load(pickle.dumps({"values": values, ("a", 1): None, day: None}, protocol))
    assert all(type(value) is StandIn for value in read["values"])
    names = [value.name.replace("__builtin__.", "builtins.") for value in read["values"]]
    assert names == [
        "argparse.Namespace",
        "collections.OrderedDict",
        "collections.Counter",
        "datetime.date",
        "builtins.len",
        "numpy._core.multiarray.scalar",
        "builtins.xrange" if protocol == 2 else "builtins.range",
    ]
    namespace, ordered, counter, *_, numbers = read["values"]
    assert namespace.state == {"rate": 0.1}
    assert dict(ordered) == {"a": 1}
    assert counter.arguments == ({"a": 2, "b": 1},)
    assert numbers.arguments == (0, 3, 1)
    assert [key if isinstance(key, str) else key.name for key in read] == [
        "values",
        "tuple",
        "datetime.date",
    ]


# Every way in which a pickle makes Python call something; each makes a folder called %b.
_ATTACKS = {
    "REDUCE": b"cos\nmkdir\n(S'%b'\ntR.",
    "REDUCE with STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93(S'%b'\ntR.",
    "a shell": b"cos\nsystem\n(S'mkdir %b'\ntR.",
    "eval": b'cbuiltins\neval\n(S\'__import__("os").mkdir("%b")\'\ntR.',
    "getattr": b"cbuiltins\ngetattr\n(cos\nsep\nS'join'\ntR0cos\nmkdir\n(S'%b'\ntR.",
    "INST": b"(S'%b'\nios\nmkdir\n.",
    "OBJ": b"(cpayload\nInit\nS'%b'\no.",
    "NEWOBJ": b"\x80\x02cpayload\nNew\n(S'%b'\nt\x81.",
    "NEWOBJ_EX": b"\x80\x04cpayload\nNew\n(S'%b'\nt}\x92.",
    "BUILD": b"\x80\x02cpayload\nSetState\n)\x81S'%b'\nb.",
    "SETITEM": b"\x80\x02cpayload\nItems\n)\x81S'%b'\nNs.",
    "SETITEMS": b"\x80\x02cpayload\nItems\n)\x81(S'%b'\nNu.",
    "APPEND": b"\x80\x02cpayload\nItems\n)\x81S'%b'\na.",
    "APPENDS": b"\x80\x02cpayload\nItems\n)\x81(S'%b'\ne.",
    "ADDITEMS": b"\x80\x04cpayload\nItems\n)\x81(S'%b'\n\x90.",
    "hash": b"\x80\x02}cpayload\nHash\n)\x81}S'path'\nS'%b'\nsbNs.",
    "import": b"cpayload_on_import\nanything\n.",
}


@pytest.fixture
def payload(monkeypatch, tmp_path):
    """The path of a folder, and classes that make one; importing one module makes that, too."""
    module = types.ModuleType("payload")
    make = os.mkdir

    class Items(list):
        def __setitem__(self, key, value):
            make(key)

        def append(self, value):
            make(value)

        add = append

        def extend(self, values):
            make(*values)

    module.Items = Items
    module.Init = type("Init", (), {"__init__": lambda self, path: make(path)})
    module.New = type("New", (), {"__new__": lambda cls, path: make(path)})
    module.SetState = type("SetState", (), {"__setstate__": lambda self, path: make(path)})
    module.Hash = type("Hash", (), {"__hash__": lambda self: make(self.path) or 0})
    monkeypatch.setitem(sys.modules, "payload", module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "payload_on_import", raising=False)
    path = tmp_path / "executed"
    (tmp_path / "payload_on_import.py").write_text(
        f"import os\nos.mkdir({str(path)!r})\nanything = 1\n"
    )
    yield path
    sys.modules.pop("payload_on_import", None)


@pytest.mark.parametrize("attack", _ATTACKS)
def test_nothing_is_executed(attack, payload):
    content = _ATTACKS[attack].replace(b"%b", str(payload).encode())
    read = _load(content)
    repr(read), hash(next(iter(read))) if type(read) is dict else None
    assert not payload.exists()
    assert "payload_on_import" not in sys.modules
    # It is no harmless pickle: Python's own executes it.
    pickle.loads(content)
    assert payload.exists()


def test_all_that_calls_is_among_the_attacks():
    tried = {
        opcode.name
        for content in _ATTACKS.values()
        for opcode, *_ in pickletools.genops(content.replace(b"%b", b"x"))
    }
    assert "EXT1" not in tried  # see below
    others = {opcode.name for opcode in pickletools.opcodes if opcode.stack_before} - tried
    assert others == {
        *("POP_MARK", "DUP", "LIST", "TUPLE1", "TUPLE2", "TUPLE3", "DICT", "FROZENSET"),
        *("MEMOIZE", "BINPERSID", "READONLY_BUFFER"),
    }


@pytest.mark.parametrize("instruction", [b"\x82\x7f", b"\x83\x7f\x00", b"\x84\x7f\x00\x00\x00"])
def test_classes_by_number_are_refused(instruction, payload, monkeypatch):
    copyreg.add_extension("payload", "New", 0x7F)
    try:
        with pytest.raises(ValueError, match=r"outside of it \(EXT[124]\)"):
            _load(b"\x80\x02" + instruction + b".")
    finally:
        copyreg.remove_extension("payload", "New", 0x7F)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "pickle exhausted"),
        (b"]", "pickle exhausted"),
        (b".", "IndexError in STOP"),
        (b"t.", "IndexError in TUPLE"),
        (b"h\x07.", "KeyError in BINGET"),
        (b"]NNs.", "TypeError in SETITEM"),
        (b"N)R.", "TypeError in REDUCE"),
        (b"]]\x93.", "TypeError in STACK_GLOBAL"),
        (b"}(Nu.", "IndexError in SETITEMS"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\xf0.", "unknown"),
        (b"\x8e" + (2**40).to_bytes(8, "little") + b"ab.", "expected 1099511627776 bytes"),
        (b"L" + b"9" * 10_000 + b"L\n.", "limit"),
        (b"Pstorage\n.", "persistent id 'storage'"),
    ],
)
def test_what_is_no_whole_pickle_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        _load(content)


@pytest.mark.parametrize(
    "content",
    [
        # Each level names the level below twice: two to the power of 100 elements to visit.
        b"](q\x00" + b"".join(b"(h%ch%ctq%c" % (k, k, k + 1) for k in range(100)) + b"}h\x64Ns.",
        b"]" + b"".join(b"q%c(h%ch%cl" % (k, k, k) for k in range(100)) + b".",
        # A hundred thousand levels.
        b"]" * 100_000 + b"a" * 99_999 + b".",
        b"N" + b"\x85" * 100_000 + b".",
        b"}N" + b"\x85" * 100_000 + b"Ns.",
        b"N" + b"cos\nsystem\nN\x85R\x85" * 1000 + b".",
        # A place in the memo for which Python's own sets aside gigabytes.
        b"Nr\xff\xff\xff\x7f.",
    ],
    ids=["tuples as a key", "lists", "deep lists", "deep tuples", "deep key", "calls", "memo"],
)
def test_small_pickles_stay_small(content):
    start = time.monotonic()
    read = _load(content)
    assert len(f"{type(read)}") < 100
    del read
    assert time.monotonic() - start < 5


def test_the_number_of_instructions_has_a_limit(monkeypatch):
    monkeypatch.setattr(inert_pickle, "_MOST_INSTRUCTIONS", 1000)
    assert len(_load(b"](" + b"]" * 990 + b"e.")) == 990
    with pytest.raises(ValueError, match="more than 1,000 instructions"):
        _load(b"](" + b"]" * 1000 + b"e.")
