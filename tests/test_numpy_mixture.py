import numpy as np
import pytest

from tfdense.mixture import GaussianUniformMixture, LaplaceMixture
from tfdense.numpy_mixture import NumpyMixture


@pytest.mark.parametrize(
    "mixture",
    [
        LaplaceMixture(maximum_variance=1e4, least_first_variance=0.01),
        GaussianUniformMixture(extent=200.0),
    ],
)
@pytest.mark.parametrize("radius", [0.3, 1.0, (2.0, 7.0), (400.0, 5.0)])
def test_confidence_is_that_in_tensorflow(mixture, radius):
    random = np.random.default_rng(7)
    raw = random.uniform(-8, 12, (31, 17, mixture.free_variances)).astype(np.float32)
    log_variance = mixture.constrain(raw).numpy()
    logits = random.normal(scale=20, size=(31, 17, 2)).astype(np.float32)
    answer = NumpyMixture(type(mixture).__name__).confidence(log_variance, logits, radius)
    expected = mixture.confidence(log_variance, logits, radius)
    assert answer.dtype == np.float32 and answer.shape == (31, 17)
    np.testing.assert_allclose(answer, expected, atol=1e-6)
