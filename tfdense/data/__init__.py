"""Photos to training pairs: random warps, local perturbations, moving objects, photometry."""

from tfdense.data.keras_pairs import pairs
from tfdense.data.photos import bundled_pair
from tfdense.data.pipeline import training_pairs, validation_pairs

__all__ = ["bundled_pair", "pairs", "training_pairs", "validation_pairs"]
