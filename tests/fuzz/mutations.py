"""Broken files out of whole ones."""

import io
import struct
import zipfile
import zlib

from hypothesis import strategies as st

_BYTES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_INTEGERS = (0, 1, 2, 3, 16, 255, 256, 0x7FFF, 0xFFFF, 2**20, 2**28, 2**31 - 1, 2**31, 2**32 - 1)

_PLACES = st.floats(0, 1, exclude_max=True) | st.integers(0, 64) | st.integers(-64, -1)
_EDITS = st.one_of(
    st.tuples(st.just("flip"), _PLACES, st.integers(0, 7)),
    st.tuples(st.just("set"), _PLACES, st.sampled_from(_BYTES)),
    st.tuples(st.sampled_from(["<I", ">I", "<H", ">H", "<Q"]), _PLACES, st.sampled_from(_INTEGERS)),
    st.tuples(st.just("cut"), _PLACES, st.just(0)),
    st.tuples(st.just("delete"), _PLACES, st.integers(1, 64)),
    st.tuples(st.just("repeat"), _PLACES, st.integers(1, 64)),
    st.tuples(st.just("insert"), _PLACES, st.binary(min_size=1, max_size=12)),
    st.tuples(st.just("digits"), _PLACES, st.sampled_from([b"0", b"-1", b"9" * 12, b"1e400"])),
)
EDITS = st.lists(_EDITS, max_size=6)


def mutated(seeds, edits=EDITS):
    """A strategy: one of the whole files (bytes), and what is changed in it, as bytes."""
    return st.builds(apply, st.sampled_from(list(seeds)), edits)


def apply(content: bytes, edits) -> bytes:
    """Returns a content with changes."""
    for kind, place, value in edits:
        length = len(content)
        if not length:
            return content
        at = int(place * length) if isinstance(place, float) else max(min(place, length), -length)
        at = min(at % length if at < 0 else at, length - 1)
        before, after = content[:at], content[at:]
        match kind:
            case "flip":
                content = before + bytes([after[0] ^ (1 << value)]) + after[1:]
            case "set":
                content = before + bytes([value]) + after[1:]
            case "cut":
                content = before
            case "delete":
                content = before + after[value:]
            case "repeat":
                content = before + after[:value] + after
            case "insert":
                content = before + value + after
            case "digits":
                end = next((i for i, each in enumerate(after) if not 48 <= each < 58), len(after))
                content = before + value + after[end:]
            case _:
                number = struct.pack(kind, value & (256 ** struct.calcsize(kind) - 1))
                content = before + number + after[len(number) :]
    return content


def members_mutated(seeds, edits=EDITS):
    """A strategy: an archive in which the content of one member is changed, and whole again."""

    def build(archive, number, edits, method):
        members = _members(archive)
        name = sorted(members)[number % len(members)]
        members[name] = apply(members[name], edits)
        return zipped(members, method)

    methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    return st.builds(build, st.sampled_from(list(seeds)), st.integers(0, 31), edits, methods)


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Returns a ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _members(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return {name: file.read(name) for name in file.namelist()}


def png_resealed(content: bytes) -> bytes:
    """Returns a PNG with right checksums, whatever its chunks hold."""
    parts, at = [content[:8]], 8
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        length = min(length, len(content))
        body = content[at + 4 : at + 8 + length]
        parts += [content[at : at + 4], body, struct.pack(">I", zlib.crc32(body))]
        at += 12 + length
    return b"".join(parts)
