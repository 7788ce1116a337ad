"""The table of data sets, and what is said of other folders."""

import pytest

from tfdense.errors import InputError
from tfdense.evaluation.datasets import DATASETS, read_pairs


def test_unknown_data_set(tmp_path):
    with pytest.raises(InputError, match=r"no data set 'kiti'.*kitti-2012"):
        read_pairs("kiti", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_other_layouts_are_refused_with_the_expected_one(tmp_path, name):
    with pytest.raises(InputError, match=r"holds no .* Expected for"):
        read_pairs(name, tmp_path)
    with pytest.raises(InputError, match=r"no folder .* Expected"):
        read_pairs(name, tmp_path / "missing")
