"""The optimisers and their learning rates against the formulas."""

import keras
import numpy as np
import pytest

from tfdense.config import TrainConfig
from tfdense.errors import InputError
from tfdense.training.optimizer import build_optimizer, learning_rate_schedule

PUBLISHED = {
    "optimizer": "adam",
    "schedule": "steps",
    "halve_at": (100,),
    "learning_rate": 0.01,
    "weight_decay": 0.1,
    "gradient_clip_norm": None,
}
GRADIENTS = np.random.default_rng(0).normal(0.0, 0.3, [4, 3]).astype(np.float32)
START = np.array([0.5, -2.0, 3.0], np.float32)


def adam(rates, l2):
    """The weights after each step (Kingma and Ba, algorithm 1), with the decay in the gradient."""
    weight, m, v = START.astype(np.float64), 0.0, 0.0
    for step, (gradient, rate) in enumerate(zip(GRADIENTS, rates, strict=True), start=1):
        gradient = gradient + l2 * weight
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        weight = weight - rate * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return weight


def named(name):
    variable = keras.Variable(START, name="kernel")
    variable._path = f"network/{name}/kernel"
    return variable


def fitted(config, *names):
    variables = [named(name) for name in names]
    optimizer = build_optimizer(config, variables)
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)] * len(names), variables)
    return [variable.numpy() for variable in variables]


def test_adam_with_the_decay_in_the_gradient():
    (weight,) = fitted(TrainConfig(**{**PUBLISHED, "halve_at": (2, 3)}), "decoder")
    np.testing.assert_allclose(weight, adam([0.01, 0.01, 0.005, 0.0025], 0.1), rtol=2e-5)
    # The decay matters at all.
    assert np.abs(weight - adam([0.01, 0.01, 0.005, 0.0025], 0.0)).max() > 1e-3


def test_the_backbone_has_a_learning_rate_of_its_own():
    config = TrainConfig(**PUBLISHED, backbone_learning_rate=0.002)
    fine, coarse, decoder = fitted(config, "pyramid/conv1", "pyramid_256/conv1", "decoder")
    np.testing.assert_allclose(fine, adam([0.002] * 4, 0.1), rtol=2e-5)
    np.testing.assert_array_equal(fine, coarse)
    np.testing.assert_allclose(decoder, adam([0.01] * 4, 0.1), rtol=2e-5)


def test_a_rate_for_a_backbone_that_is_not_trained_is_refused():
    config = TrainConfig(**PUBLISHED, backbone_learning_rate=0.002)
    with pytest.raises(InputError, match="no backbone is trained"):
        build_optimizer(config, [named("decoder")])


def test_the_rate_halves_after_the_steps_named():
    config = TrainConfig(**{**PUBLISHED, "halve_at": (3, 5)})
    schedule = learning_rate_schedule(config)
    rates = [float(schedule(step)) for step in range(7)]
    np.testing.assert_allclose(rates, [0.01] * 3 + [0.005] * 2 + [0.0025] * 2, rtol=1e-6)


def test_the_cosine_rises_and_falls():
    config = TrainConfig(steps=30, warmup_steps=10, learning_rate=0.1, final_learning_rate=0.02)
    schedule = learning_rate_schedule(config)
    rates = [float(schedule(step)) for step in (0, 5, 10, 20, 30, 40)]
    np.testing.assert_allclose(rates, [0.0, 0.05, 0.1, 0.06, 0.02, 0.02], rtol=1e-5)


@pytest.mark.parametrize(("clip_norm", "expected"), [(None, 1.0), (0.5, 0.1)])
def test_the_norm_over_all_weights_is_clipped(clip_norm, expected):
    """Adam forgets the gradient's scale, but its first moment tells it."""
    variables = [named("one"), named("two")]
    config = TrainConfig(**{**PUBLISHED, "weight_decay": 0.0, "gradient_clip_norm": clip_norm})
    optimizer = build_optimizer(config, variables)
    ones = (
        keras.ops.convert_to_tensor([3.0, 0.0, 0.0]),
        keras.ops.convert_to_tensor([0.0, 4.0, 0.0]),
    )
    optimizer.apply(list(ones), variables)
    moments = [v.numpy() for v in optimizer.inner_optimizer._momentums]
    np.testing.assert_allclose(moments, 0.1 * expected * np.stack(ones), rtol=1e-5)
