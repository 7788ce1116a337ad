"""What the tests of evaluation share."""

import pytest

from tfdense.mixture import LaplaceMixture


class CountingNetwork:
    """Matches by a function of source and target, and counts how often."""

    mixture = LaplaceMixture(maximum_variance=100.0)

    def __init__(self, answer):
        self.answer = answer
        self.calls = 0

    def match(self, source, target):
        self.calls += 1
        return self.answer(source, target)


@pytest.fixture
def counting_network():
    """Makes a `CountingNetwork` of a function."""
    return CountingNetwork
