"""The likelihood over a pyramid, by hand and against the original's values."""

import numpy as np
import pytest
import tensorflow as tf

from tfdense.ground_truth import (
    merge_ground_truth,
    resize_ground_truth,
    scattered_flow,
)
from tfdense.losses import (
    MixtureNLL,
    extrapolation_error,
    masked_likelihood,
    matching_likelihood,
    pyramid_likelihood,
)
from tfdense.mixture import LaplaceMixture

MIXTURE = LaplaceMixture(maximum_variance=256.0**2)


def random_estimate(generator, size):
    return {
        "flow": tf.constant(generator.normal(size=(2, *size, 2)), tf.float32),
        "log_variance": MIXTURE.constrain(generator.normal(size=(2, *size, 1))),
        "logits": tf.constant(generator.normal(size=(2, *size, 2)), tf.float32),
    }


def density(error, log_variance, logits):
    """The mixture's density, written out."""
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    sigma = np.exp(0.5 * log_variance)
    distance = np.abs(error).sum(-1, keepdims=True)
    return (weights / (2 * sigma**2) * np.exp(-np.sqrt(2) / sigma * distance)).sum(-1)


def test_mean_over_the_valid_pixels_of_each_pair():
    generator = np.random.default_rng(0)
    estimate = random_estimate(generator, (4, 6))
    flow = generator.normal(size=(2, 4, 6, 2)).astype(np.float32)
    mask = np.zeros((2, 4, 6), np.float32)
    mask[0, :2] = 1
    mask[1, 0, 0] = 1
    likelihood = -np.log(
        density(
            estimate["flow"].numpy() - flow,
            estimate["log_variance"].numpy(),
            estimate["logits"].numpy(),
        )
    )
    expected = (likelihood[0, :2].mean() + likelihood[1, 0, 0]) / 2
    mean = masked_likelihood(MIXTURE, estimate, flow, mask)
    assert float(tf.reduce_mean(mean)) == pytest.approx(expected, rel=1e-5)
    total = masked_likelihood(MIXTURE, estimate, flow, mask, reduction="sum")
    assert float(tf.reduce_mean(total)) == pytest.approx(24 * expected, rel=1e-5)


def test_invalid_pixels_give_neither_loss_nor_gradient():
    generator = np.random.default_rng(1)
    estimate = random_estimate(generator, (4, 4))
    flow = np.zeros((2, 4, 4, 2), np.float32)
    flow[1] = 1e30  # what an invalid pixel holds must not matter
    mask = np.stack([np.ones((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    with tf.GradientTape() as tape:
        tape.watch(estimate)
        loss = masked_likelihood(MIXTURE, estimate, flow, mask)
    assert np.isfinite(loss.numpy()).all()
    for gradient in tape.gradient(loss, estimate).values():
        assert np.abs(gradient[0].numpy()).max() > 0
        np.testing.assert_array_equal(gradient[1].numpy(), 0)


def test_scattered_flows_lead_evenly_over_the_source():
    flow = scattered_flow((40, 60), (160, 120)).numpy()
    y, x = np.mgrid[:40, :60] + 0.5
    place = flow + np.stack([x * 2, y * 4], axis=-1)
    assert (place >= 0).all() and (place < [120, 160]).all()
    counts, _, _ = np.histogram2d(place[..., 0].ravel(), place[..., 1].ravel(), bins=6)
    np.testing.assert_allclose(counts, 2400 / 36, rtol=0.1)
    neighbours = np.abs(np.diff(place, axis=1)).mean()
    assert neighbours > 20


def test_unmatched_pixels_ask_for_a_wide_distribution_and_leave_the_flow_alone():
    raw = tf.Variable(tf.zeros([1, 16, 16, 3]))
    flow = tf.Variable(tf.zeros([1, 16, 16, 2]))
    mask, unmatched = np.zeros([2, 1, 64, 64], np.float32)
    mask[..., :32], unmatched[..., 32:] = 1, 1
    optimizer = tf.keras.optimizers.Adam(0.3)
    for _ in range(60):
        with tf.GradientTape() as tape:
            estimate = {
                "flow": flow,
                "log_variance": MIXTURE.constrain(raw[..., :1]),
                "logits": raw[..., 1:],
            }
            truth = np.full([1, 64, 64, 2], 0.1, np.float32)
            loss = pyramid_likelihood(MIXTURE, [estimate], truth, mask, [1.0], unmatched=unmatched)
        gradients = tape.gradient(loss, [raw, flow])
        np.testing.assert_array_equal(gradients[1][:, :, 8:], 0)
        assert np.abs(gradients[1][:, :, :8]).min() > 0
        optimizer.apply_gradients([(gradients[0], raw)])
    confidence = MIXTURE.confidence(estimate["log_variance"], estimate["logits"]).numpy()
    assert confidence[:, :, :8].min() > 0.5
    # The exceptions are places that happen to be near their own pixel.
    assert np.median(confidence[:, :, 8:]) < 0.01


def test_extrapolation_counts_hidden_pixels_of_related_pairs_only():
    generator = np.random.default_rng(4)
    estimate = {"flow": tf.Variable(generator.normal(size=(2, 4, 4, 2)), dtype=tf.float32)}
    truth = generator.normal(size=(2, 16, 16, 2)).astype(np.float32)
    mask, hidden = np.zeros([2, 2, 16, 16], np.float32)
    mask[0, :8], hidden[0, 8:], hidden[1] = 1, 1, 1
    with tf.GradientTape() as tape:
        loss = extrapolation_error([estimate], truth, mask, hidden, [0.5])
    # Half-pixel centres: cell i of 4 lies between the pixels 4 i + 1 and 4 i + 2.
    at_cells = (truth[0, 1::4] + truth[0, 2::4])[:, 1::4] + (truth[0, 1::4] + truth[0, 2::4])[
        :, 2::4
    ]
    error = np.abs(estimate["flow"][0].numpy() - at_cells / 4).sum(-1)
    assert float(tf.reduce_mean(loss)) == pytest.approx(0.5 * error[2:].sum() / 32, rel=1e-5)
    gradient = tape.gradient(loss, estimate["flow"]).numpy()
    assert (gradient[0, 2:] != 0).all()
    assert not gradient[0, :2].any() and not gradient[1].any()


def test_the_weight_of_unmatched_pixels_is_relative_to_valid_ones():
    generator = np.random.default_rng(3)
    estimate = random_estimate(generator, (4, 4))
    truth = np.zeros((2, 4, 4, 2), np.float32)
    mask, unmatched = np.zeros([2, 2, 4, 4], np.float32)
    mask[:, :2], unmatched[:, 2:] = 1, 1

    def loss(mask, unmatched, weight=1.0):
        pairs = pyramid_likelihood(
            MIXTURE,
            [estimate],
            truth,
            mask,
            [1.0],
            unmatched=unmatched,
            unmatched_weight=weight,
        )
        return float(tf.reduce_mean(pairs))

    valid, others = loss(mask, None), loss(np.zeros_like(mask), unmatched)
    assert loss(mask, unmatched, 0.5) == pytest.approx((valid + 0.5 * others) / 1.5, rel=1e-5)


def test_a_level_is_compared_on_its_own_grid():
    ramp = np.zeros((1, 8, 8, 2), np.float32)
    ramp[..., 0] = np.arange(8)
    estimate = {
        "flow": tf.constant(ramp[:, ::4, ::4] + [1.5, 0.0], tf.float32),
        "log_variance": tf.zeros([1, 2, 2, 2]),
        "logits": tf.zeros([1, 2, 2, 2]),
    }
    mask = np.ones((1, 8, 8), np.float32)
    loss = pyramid_likelihood(MIXTURE, [estimate], ramp, mask, [1.0])
    assert float(tf.reduce_mean(loss)) == pytest.approx(np.log(2), rel=1e-5)  # no error at all


def test_full_resolution_resizes_the_estimate():
    generator = np.random.default_rng(2)
    levels = [random_estimate(generator, (2, 2)), random_estimate(generator, (4, 4))]
    flow = generator.normal(size=(2, 8, 8, 2)).astype(np.float32)
    mask = np.ones((2, 8, 8), np.float32)
    loss = pyramid_likelihood(MIXTURE, levels, flow, mask, [0.25, 1.0], resolution="full")
    expected = 0.0
    for weight, level in zip([0.25, 1.0], levels, strict=True):
        resized = {k: tf.image.resize(v, [8, 8]) for k, v in level.items()}
        expected += weight * float(tf.reduce_mean(masked_likelihood(MIXTURE, resized, flow, mask)))
    assert float(tf.reduce_mean(loss)) == pytest.approx(expected, rel=1e-5)


def test_resized_pixels_are_valid_where_all_their_neighbours_are():
    flow = np.zeros((1, 4, 4, 2), np.float32)
    flow[..., 0] = 8.0
    mask = np.ones((1, 4, 4), np.float32)
    mask[0, 1, 1] = 0
    resized, valid = resize_ground_truth(flow, mask, (2, 2), rescale=True)
    np.testing.assert_array_equal(resized[0, ..., 0], np.full((2, 2), 4.0))
    np.testing.assert_array_equal(valid[0], [[0, 1], [1, 1]])


def test_sparse_ground_truth_remains_when_resized():
    flow = np.full((1, 4, 4, 2), 1e30, np.float32)
    mask = np.zeros((1, 4, 4), np.float32)
    flow[0, 1, 1], mask[0, 1, 1] = [8.0, 2.0], 1
    flow[0, 0, 2], flow[0, 1, 3], mask[0, [0, 1], [2, 3]] = [4.0, 0.0], [6.0, -2.0], 1
    merged, valid = merge_ground_truth(flow, mask, (2, 2))
    np.testing.assert_array_equal(valid[0], [[1, 1], [0, 0]])
    np.testing.assert_allclose(merged[0, 0], [[4.0, 1.0], [2.5, -0.5]], rtol=1e-6)


def test_no_sparse_ground_truth_is_skipped():
    """From 65 to 32 px, as from 520 to 256, bilinear sampling leaves out some pixels."""
    random = np.random.default_rng(0)
    flow = random.normal(size=(1, 65, 65, 2)).astype(np.float32)
    mask = (random.random((1, 65, 65)) < 0.05).astype(np.float32)
    merged, valid = (tensor.numpy()[0] for tensor in merge_ground_truth(flow, mask, (32, 32)))
    aims = {}
    for y, x in np.argwhere(mask[0]):
        aim = tuple(round((place + 0.5) * 32 / 65 - 0.5) for place in (y, x))
        aims.setdefault(aim, []).append(flow[0, y, x] * 32 / 65)
    assert set(map(tuple, np.argwhere(valid))) == set(aims)
    alone = [aim for aim, flows in aims.items() if len(flows) == 1]
    assert len(alone) > 100
    for aim in alone:
        np.testing.assert_allclose(merged[aim], aims[aim][0], rtol=1e-5)
    bilinear = tf.image.resize(mask[..., None], (32, 32))[0, ..., 0].numpy() > 0
    assert bilinear.sum() < valid.sum()


def test_dense_ground_truth_is_resized_as_ever():
    flow = np.random.default_rng(0).normal(size=(1, 65, 65, 2)).astype(np.float32)
    merged, valid = merge_ground_truth(flow, np.ones((1, 65, 65), np.float32), (32, 32))
    assert valid.numpy().all()
    np.testing.assert_allclose(merged, tf.image.resize(flow, (32, 32)) * 32 / 65, atol=1e-6)


def test_images_seen_resized_keep_sparse_ground_truth():
    flow = np.zeros((1, 8, 8, 2), np.float32)
    mask = np.zeros((1, 8, 8), np.float32)
    flow[0, 2, 5], mask[0, 2, 5] = [4.0, 8.0], 1
    level = {
        "flow": tf.constant([[[[2.0, 5.0]]]]),  # half of the true flow and 1 px more
        "log_variance": tf.zeros([1, 1, 1, 2]),
        "logits": tf.zeros([1, 1, 1, 2]),
        "image_size": (4, 4),
    }
    loss = pyramid_likelihood(MIXTURE, [level], flow, mask, [1.0], resolution="full")
    assert float(tf.reduce_mean(loss)) == pytest.approx(np.log(2) + np.sqrt(2), rel=1e-5)


def test_matching_reads_the_cell_of_the_true_match():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(1, 2, 3, 6)).astype(np.float32)
    log_probability = tf.nn.log_softmax(logits)
    # Cells of 4 px; all of the target lies one cell to the left of where it is in the source.
    flow = np.zeros((1, 8, 12, 2), np.float32)
    flow[..., 0] = 4.0
    flow[0, :4, :4] = [9.0, 3.0]  # to (9 + 1.5, 3 + 1.5): column 2, row 1
    mask = np.ones((1, 8, 12), np.float32)
    flow[0, 4:, 4:8], mask[0, 4:, 4:8] = 1e9, 0
    matches = {(0, 0): 5, (0, 1): 2, (1, 0): 4}  # the last column leaves the source
    expected = -np.mean([log_probability[0, y, x, cell] for (y, x), cell in matches.items()])
    loss = matching_likelihood(log_probability, flow, mask)
    assert float(tf.reduce_mean(loss)) == pytest.approx(expected, rel=1e-5)


def test_one_weight_for_each_level():
    with pytest.raises(ValueError, match="one weight for each of the 1 levels"):
        pyramid_likelihood(MIXTURE, [{}], tf.zeros([1, 4, 4, 2]), tf.ones([1, 4, 4]), [1.0, 2.0])


def _pyramid(generator):
    sizes = ((2, 3), (4, 6), (8, 12))
    levels = [random_estimate(generator, size) for size in sizes]
    truth = {
        "flow": tf.constant(generator.normal(0, 2, (2, 8, 12, 2)), tf.float32),
        "mask": tf.constant(generator.uniform(size=(2, 8, 12)) < 0.8, tf.float32),
        "unmatched": tf.constant(generator.uniform(size=(2, 8, 12)) < 0.1, tf.float32),
    }
    scores = tf.constant(generator.normal(0, 1, (2, 2, 3, 6)), tf.float32)
    return {**levels[-1], "levels": levels, "matching": tf.nn.log_softmax(scores)}, truth


def test_the_loss_of_keras_is_the_weighted_sum_of_its_terms():
    answer, truth = _pyramid(np.random.default_rng(8))
    levels, weights = answer["levels"], (0.2, 0.3, 1.0)
    flow, mask, unmatched = (truth[name] for name in ("flow", "mask", "unmatched"))
    each = (
        pyramid_likelihood(
            MIXTURE, levels, flow, mask, weights, "full", "sum", unmatched, unmatched_weight=0.4
        )
        + 0.1 * extrapolation_error(levels, flow, mask, unmatched, weights)
        + 2.0 * matching_likelihood(answer["matching"], flow, mask)
    ).numpy()
    loss = MixtureNLL(MIXTURE, weights, "full", "sum", 0.4, 0.1, 2.0)
    assert each.shape == (2,) and abs(each[0] - each[1]) > 1e-3
    assert float(loss(truth, answer)) == pytest.approx(each.mean(), rel=1e-6)
    half = loss(truth, answer, sample_weight=np.float32([0, 1]))
    assert float(half) == pytest.approx(each[1] / 2, rel=1e-6)

    rebuilt = MixtureNLL.from_config(loss.get_config())
    assert rebuilt.get_config() == loss.get_config()
    assert float(rebuilt(truth, answer)) == float(loss(truth, answer))


def test_the_loss_takes_a_network_without_levels():
    answer, truth = _pyramid(np.random.default_rng(9))
    answer = {name: answer[name] for name in ("flow", "log_variance", "logits")}
    everywhere = masked_likelihood(MIXTURE, answer, truth["flow"], tf.ones([2, 8, 12]))
    loss = MixtureNLL(MIXTURE)
    assert float(loss({"flow": truth["flow"]}, answer)) == pytest.approx(
        float(tf.reduce_mean(everywhere)), rel=1e-6
    )


def test_a_level_seen_resized_keeps_its_size_as_whole_numbers():
    answer, truth = _pyramid(np.random.default_rng(10))
    level = {**answer["levels"][0], "image_size": tf.constant([4, 6])}
    expected = pyramid_likelihood(MIXTURE, [level], truth["flow"], truth["mask"], [1.0])
    loss = MixtureNLL(MIXTURE, extrapolation_weight=0.0, unmatched_weight=0.0)
    value = loss(truth, {**level, "levels": [level]})
    assert float(value) == pytest.approx(float(tf.reduce_mean(expected)), rel=1e-6)


@pytest.mark.parametrize("resolution", ["level", "full"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_unknown_flow_gives_neither_loss_nor_gradient(value, resolution):
    answer, truth = _pyramid(np.random.default_rng(11))
    levels, valid = answer["levels"], truth["mask"] > 0
    sources = [level[name] for level in levels for name in ("flow", "log_variance", "logits")]
    levels[0]["image_size"] = tf.constant([4, 6])  # sees the images resized
    truth["unmatched"] = tf.where(valid, 0.0, truth["unmatched"])

    def evaluate(loss, other):
        flow = tf.where(valid[..., None], truth["flow"], other)
        with tf.GradientTape() as tape:
            tape.watch(sources)
            result = loss({**truth, "flow": flow}, answer)
        return result, *tape.gradient(result, sources)

    results = evaluate(MixtureNLL(MIXTURE, resolution=resolution), value)
    # Where it is unknown there is nothing to extrapolate to either.
    apart = evaluate(MixtureNLL(MIXTURE, resolution=resolution, extrapolation_weight=0.0), 0.0)
    for ours, expected in zip(results, apart, strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert np.isfinite(ours).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": "ful"}, "'level', 'full'.*resolution='ful'"),
        ({"pixel_reduction": "avg"}, "'mean', 'sum'.*pixel_reduction='avg'"),
    ],
)
def test_what_the_loss_does_not_know_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MixtureNLL(MIXTURE, **arguments)


def test_an_answer_without_a_level_is_refused():
    with pytest.raises(ValueError, match="at least one level"):
        MixtureNLL(MIXTURE)({"flow": tf.zeros([1, 4, 4, 2])}, {"levels": []})
