"""Models that COLMAP makes of real views, matched by the network that ships."""

import itertools
import runpy
from pathlib import Path

import pytest

import tfdense
from tfdense import formats
from tfdense.data import bundled_pair

pycolmap = pytest.importorskip("pycolmap")

_ROOT = Path(__file__).resolve().parents[2]
_FOUNTAIN = _ROOT.parent / "shared" / "data" / "eval" / "strecha" / "fountain-P11"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def matcher():
    return tfdense.load("pdcnet-lite")


def test_two_view_geometry_of_the_bundled_pair(matcher, tmp_path):
    """No model: one camera turned, with too little parallax for COLMAP to begin with."""
    source, target = bundled_pair()
    with formats.open("colmap", tmp_path, one_camera=True) as writer:
        writer.add(source.name, target.name, matcher.match(source, target, both_ways=True))
    database = pycolmap.Database.open(tmp_path / "database.db")
    numbers = [image.image_id for image in database.read_all_images()]
    geometry = database.read_two_view_geometry(*numbers)
    assert len(geometry.inlier_matches) > 500
    database.close()


@pytest.mark.reference
def test_a_model_of_the_fountain(matcher):
    if not _FOUNTAIN.is_dir():
        pytest.skip(f"the views are not at {_FOUNTAIN}")
    bench = runpy.run_path(str(_ROOT / "bench" / "reconstruction.py"))
    views = dict(itertools.islice(bench["read_views"](_FOUNTAIN).items(), 4))
    matches = {
        pair: matcher.match(*(views[name].path for name in pair), both_ways=True)
        for pair in bench["pairs_of"](views)
    }
    for known in (True, False):
        model = bench["model_of"](views, matches, known)
        assert model.registered == 4
        assert model.rotations.max() < 1 and model.directions.max() < 3
        assert abs(model.focal / 690.4 - 1) < (0.001 if known else 0.05)
