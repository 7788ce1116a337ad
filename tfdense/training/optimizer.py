"""The optimiser and its learning rate."""

from collections.abc import Sequence

import keras

from tfdense.config import TrainConfig
from tfdense.errors import InputError

_NEVER = 2**31 - 1

# What the networks call their feature pyramids begins so.
_BACKBONE = "pyramid"


@keras.saving.register_keras_serializable("tfdense")
class CoupledAdam(keras.optimizers.Adam):
    """Adam on the gradient of loss + l2 / 2 |weights|^2, slower on the backbone if asked to.

    PDC-Net was trained by it. `keras.optimizers.Adam(weight_decay=...)` decays the weights beside
    the gradient instead, as AdamW does.

    Args:
        learning_rate: a number or a schedule.
        l2: factor of each weight in its gradient, after clipping.
        backbone_factor: on the steps of the feature pyramids.
        **kwargs: of Adam.
    """

    def __init__(self, learning_rate, l2: float = 0.0, backbone_factor: float = 1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2
        self.backbone_factor = backbone_factor

    def update_step(self, gradient, variable, learning_rate):
        """Changes one weight, which moves in proportion to the rate."""
        if _in_backbone(self._trainable_variables[self._get_variable_index(variable)]):
            learning_rate = self.backbone_factor * learning_rate
        super().update_step(gradient + self.l2 * variable, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2, "backbone_factor": self.backbone_factor}


def build_optimizer(
    config: TrainConfig, variables: Sequence[keras.Variable]
) -> keras.optimizers.LossScaleOptimizer:
    """Builds the optimiser of some weights, with the gradient's norm clipped.

    The loss scale is there for 16-bit floats; under any precision the wrapper leaves out a step
    whose gradient is not finite.

    Raises:
        InputError: if the backbone shall have a learning rate of its own, but is not trained.
    """
    learning_rate = learning_rate_schedule(config)
    if config.optimizer == "adam":
        factor = 1.0
        if config.backbone_learning_rate is not None:
            factor = config.backbone_learning_rate / config.learning_rate
            if not any(_in_backbone(variable) for variable in variables):
                raise InputError("train.backbone_learning_rate is set, but no backbone is trained.")
        optimizer = CoupledAdam(
            learning_rate,
            l2=config.weight_decay,
            backbone_factor=factor,
            epsilon=1e-8,
            global_clipnorm=config.gradient_clip_norm,
        )
    else:
        optimizer = keras.optimizers.AdamW(
            learning_rate,
            weight_decay=config.weight_decay,
            global_clipnorm=config.gradient_clip_norm,
        )
        # Biases and the scales of normalisations are not decayed.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    half = config.precision == "mixed_float16"
    optimizer = keras.optimizers.LossScaleOptimizer(
        optimizer,
        initial_scale=2.0**15 if half else 1.0,
        dynamic_growth_steps=2000 if half else _NEVER,
    )
    optimizer.build(variables)
    return optimizer


def learning_rate_schedule(config: TrainConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """Builds the schedule: the learning rate by the number of steps taken so far."""
    if config.schedule == "steps":
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            # A boundary is the last step at the rate before it.
            [step - 1 for step in config.halve_at],
            [config.learning_rate / 2**i for i in range(len(config.halve_at) + 1)],
        )
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if config.warmup_steps else config.learning_rate,
        warmup_target=config.learning_rate if config.warmup_steps else None,
        warmup_steps=config.warmup_steps,
        decay_steps=max(config.steps - config.warmup_steps, 1),
        alpha=min(config.final_learning_rate / config.learning_rate, 1.0),
    )


def _in_backbone(variable: keras.Variable) -> bool:
    return any(part.startswith(_BACKBONE) for part in variable.path.split("/"))
