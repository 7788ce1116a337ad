"""Measures a network on pairs with ground truth."""

from collections.abc import Callable, Iterable

import numpy as np

from tfdense.errors import InputError
from tfdense.evaluation import metrics
from tfdense.mixture import Mixture

COLUMNS = (
    "aepe",
    *(f"pck_{threshold:g}" for threshold in metrics.PCK_THRESHOLDS),
    "nll",
    "ause",
    "mean_confidence",
)


def validate(
    predict: Callable[[dict], dict], mixture: Mixture, batches: Iterable[dict]
) -> dict[str, float]:
    """Returns the mean over all pairs of what is measured on the valid pixels of each.

    Args:
        predict: a network.
        mixture: its mixture.
        batches: of ``source``, ``target``, ``flow`` and ``mask``.

    Returns:
        A value for each of `COLUMNS`: AEPE in px, PCK in percent, negative log-likelihood in nats,
        AUSE of the AEPE with the confidence P_1, and the mean of that confidence.

    Raises:
        InputError: if no pair has a valid pixel.
    """
    rows = []
    for batch in batches:
        output = predict({"source": batch["source"], "target": batch["target"]})
        likelihood = mixture.negative_log_likelihood(
            output["flow"] - batch["flow"], output["log_variance"], output["logits"]
        ).numpy()
        confidence = mixture.confidence(output["log_variance"], output["logits"]).numpy()
        errors = metrics.endpoint_error(output["flow"].numpy(), batch["flow"].numpy())
        valid = batch["mask"].numpy() > 0
        rows += [
            _measure(errors[i][valid[i]], likelihood[i][valid[i]], confidence[i][valid[i]])
            for i in range(len(valid))
            if valid[i].any()
        ]
    if not rows:
        raise InputError("Expected pairs to validate on. Received: none with ground truth.")
    return dict(zip(COLUMNS, np.mean(rows, axis=0).tolist(), strict=True))


def _measure(errors, likelihood, confidence) -> list[float]:
    return [
        metrics.average_endpoint_error(errors),
        *(metrics.percentage_of_correct_keypoints(errors, t) for t in metrics.PCK_THRESHOLDS),
        likelihood.mean(),
        metrics.area_under_sparsification_error(errors, -confidence),
        confidence.mean(),
    ]
