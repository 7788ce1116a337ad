"""What the tests of training share."""

import pytest
import tensorflow as tf


@pytest.fixture
def eager():
    """Runs without graphs: tracing a network's step takes as long as ten steps without."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
