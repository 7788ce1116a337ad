"""Which pairs are matched, and in which order."""

import itertools

import numpy as np
import pytest

from tfdense.errors import InputError
from tfdense.pairs.lists import NamedPair, all_pairs, nearest_pairs, read_list


def test_a_list_is_read(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(
        "# source target\na.jpg b.jpg\n\nmy a.jpg\tdir/b.jpg\na.jpg b.jpg\n", "utf-8-sig"
    )
    assert read_list(path) == [NamedPair("a.jpg", "b.jpg"), NamedPair("my a.jpg", "dir/b.jpg")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg b.jpg\na.jpg\n", "line 2"),
        (b"a.jpg b.jpg 1 2 3\n", "line 1"),
        (b"a.jpg\t\n", "line 1"),
        (b"\n# nothing\n", "holds no pair"),
        (b"\xff\xfe\n", "UTF-8"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_list(path)


def test_each_two_once():
    names = [f"{i:02d}" for i in range(40)]
    pairs = all_pairs(names)
    assert {frozenset(pair) for pair in pairs} == {
        frozenset(pair) for pair in itertools.combinations(names, 2)
    }
    assert len(pairs) == 40 * 39 // 2
    assert all(pair.target < pair.source for pair in pairs)


def test_few_images_serve_many_pairs_that_follow_each_other():
    names = [f"{i:03d}" for i in range(100)]
    kept, misses = dict.fromkeys(names[:0]), 0
    for pair in all_pairs(names):
        for name in pair:
            misses += name not in kept
            kept.pop(name, None)
            kept[name] = None
            if len(kept) > 40:
                del kept[next(iter(kept))]
    # Row by row it would be some 3,000 of 9,900.
    assert misses < 500


def test_those_that_look_alike():
    angles = np.radians([0, 10, 21, 90, 95])
    descriptors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = nearest_pairs(list("abcde"), descriptors, 1)
    assert {"".join(sorted(pair)) for pair in pairs} == {"ab", "bc", "de"}
    assert len(nearest_pairs(list("abcde"), descriptors, 99)) == 10
