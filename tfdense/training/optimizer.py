"""The optimiser and its learning rate."""

import keras

from tfdense.config import TrainConfig

_NEVER = 2**31 - 1


def build_optimizer(config: TrainConfig) -> keras.optimizers.LossScaleOptimizer:
    """Builds AdamW under a warm-up and a cosine, with the gradient's norm clipped.

    The loss scale is there for 16-bit floats; under any precision the wrapper leaves out a step
    whose gradient is not finite.
    """
    learning_rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if config.warmup_steps else config.learning_rate,
        warmup_target=config.learning_rate if config.warmup_steps else None,
        warmup_steps=config.warmup_steps,
        decay_steps=max(config.steps - config.warmup_steps, 1),
        alpha=min(config.final_learning_rate / config.learning_rate, 1.0),
    )
    optimizer = keras.optimizers.AdamW(
        learning_rate,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm,
    )
    # Biases and the scales of normalisations are not decayed.
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    half = config.precision == "mixed_float16"
    return keras.optimizers.LossScaleOptimizer(
        optimizer,
        initial_scale=2.0**15 if half else 1.0,
        dynamic_growth_steps=2000 if half else _NEVER,
    )
