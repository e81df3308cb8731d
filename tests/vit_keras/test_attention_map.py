"""`attention_map` against NumPy in float64, whose gradients are finite differences."""

import gc
import weakref

import keras
import numpy as np
import pytest

from tests import reference
from tests.models import TINY, images_for, randomise, run, tiny, weights_of
from vit_keras import attention_map, attention_rollout, attention_scores, create_model
from vit_keras.attention_maps import METHODS, enlarge

# Between them every pooling, a distillation token, registers, grids that are no square,
# norms of queries and keys; with the tanh form of GELU, which NumPy has.
CONFIGS = {
    "token": tiny(mlp_activation="gelu_tanh"),
    "distilled": tiny(
        mlp_activation="gelu_tanh",
        image_size=(16, 24),
        distillation_token=True,
        num_register_tokens=1,
        activation="softmax",
    ),
    "gap": tiny(
        mlp_activation="gelu_tanh",
        image_size=(24, 16),
        pooling="gap",
        class_token=True,
        activation="sigmoid",
        layer_scale_init_value=0.1,
    ),
    "map": tiny(
        mlp_activation="gelu_tanh",
        image_size=(16, 24),
        pooling="map",
        num_register_tokens=2,
        qk_norm=True,
        representation_size=7,
    ),
}
# Float32 scores and gradients are exact to about 1e-5; finite differences to 1e-7.
TOLERANCE = {"rtol": 2e-3, "atol": 2e-5}


class Case:
    """A model, and what NumPy makes of it."""

    def __init__(self, config):
        self.config, self.images = config, images_for(config, number=2)
        self.model = randomise(create_model(config))
        self.weights = weights_of(self.model)
        self.linear = config.replace(activation="linear")
        self.classes = self.logits({}).argmax(1)
        heads = config.num_heads
        self.shapes = [(2, config.num_tokens, config.num_tokens)] * (
            config.num_layers * heads
        )
        if config.pooling == "map":
            patches = config.grid[0] * config.grid[1]
            self.shapes += [(2, 1, patches)] * heads

    def logits(self, offsets, seen=None):
        """Logits with offsets {(softmax of a head, row, column): number} of scores."""
        count = iter(range(1000))

        def softmax(x, plain=reference.softmax):
            scores, index = plain(x), next(count)
            if seen is not None:
                seen.append(scores.copy())
            for (which, row, column), offset in offsets.items():
                if which == index:
                    scores[:, row, column] += offset
            return scores

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "softmax", softmax)
            return reference.forward(self.weights, self.linear, self.images)

    def scores(self):
        """One (N, T, T) for each block and head, then (N, 1, P) for each head."""
        self.logits({}, seen := [])
        return seen

    def gradients(self, classes):
        """Central differences of each image's class by each score."""
        step, results = 1e-4, []
        rows = np.arange(2)
        for which, shape in enumerate(self.shapes):
            gradient = np.zeros(shape)
            for row in range(shape[1]):
                for column in range(shape[2]):
                    up = self.logits({(which, row, column): step})
                    down = self.logits({(which, row, column): -step})
                    slope = (up - down)[rows, classes] / (2 * step)
                    gradient[:, row, column] = slope
            results.append(gradient)
        return results

    def expected(self, method, classes=None):
        """Map (N, rows, columns) by the formulas, image by image."""
        config, scores = self.config, self.scores()
        if method == "relevance":
            gradients = self.gradients(self.classes if classes is None else classes)
            pairs = zip(scores, gradients, strict=True)
            scores = [np.maximum(a * g, 0) for a, g in pairs]
        layers, heads = config.num_layers, config.num_heads
        tokens, prefix = config.num_tokens, config.num_prefix_tokens
        maps = []
        for image in range(2):
            blocks = [
                sum(scores[layer * heads + head][image] for head in range(heads))
                / heads
                for layer in range(layers)
            ]
            matrix = np.eye(tokens)
            for block in blocks:
                if method == "relevance":
                    matrix = matrix + block @ matrix
                else:
                    matrix = (block + np.eye(tokens)) @ matrix / 2
            if method == "attention":
                matrix = sum(blocks) / layers
            if config.pooling == "map":
                pooling = sum(scores[layers * heads + head] for head in range(heads))
                row = pooling[image, 0] / heads @ matrix[prefix:]
            elif config.pooling == "gap":
                row = matrix[prefix:].mean(axis=0)
                if method == "relevance":
                    row[prefix:] -= 1 / (tokens - prefix)  # the identity that it began
            elif config.distillation_token:
                row = (matrix[0] + matrix[1]) / 2
            else:
                row = matrix[0]
            maps.append(row[prefix:].reshape(config.grid) / row[prefix:].sum())
        return np.stack(maps)


@pytest.fixture(scope="module", params=CONFIGS)
def case(request):
    return Case(CONFIGS[request.param])


@pytest.fixture(scope="module")
def token():
    return Case(CONFIGS["token"])


@pytest.mark.parametrize("method", METHODS)
def test_map_equals_the_reference(case, method):
    found = attention_map(case.model, case.images, method, per_patch=True)
    assert found.dtype == "float32" and found.shape == (2, *case.config.grid)
    np.testing.assert_allclose(found, case.expected(method), **TOLERANCE)
    # A float32 sum of six shares.
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1.0, atol=1e-6)


def test_relevance_of_a_class(token):
    other = (token.classes + 1) % 5
    maps = {
        name: attention_map(token.model, token.images, "relevance", class_index=index)
        for name, index in (("each", other), ("predicted", token.classes), ("3", 3))
    }
    assert not np.allclose(maps["each"], maps["predicted"], atol=0.01)
    predicted = attention_map(token.model, token.images, "relevance")
    np.testing.assert_array_equal(maps["predicted"], predicted)
    expected = token.expected("relevance", np.array([3, 3]))
    np.testing.assert_allclose(maps["3"], enlarge(expected, (16, 16)), **TOLERANCE)


def test_layers_and_heads(token):
    scores = attention_scores(token.model, token.images)
    for layer, head in ((0, 1), (-1, None), (None, 0)):
        found = attention_map(
            *(token.model, token.images, "attention"),
            layer=layer,
            head=head,
            per_patch=True,
        )
        chosen = scores if layer is None else scores[[layer]]
        chosen = chosen if head is None else chosen[:, :, [head]]
        rows = chosen.mean(axis=(0, 2))[:, 0, 1:].reshape(2, 2, 2)
        # Means of a few float32 numbers, in another order.
        expected = rows / rows.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_rollout_is_that_of_the_first_token(token):
    scores = attention_scores(token.model, token.images)
    expected = attention_rollout(scores, 1, (2, 2))
    found = attention_map(token.model, token.images, per_patch=True)
    # Scores of the same graph; float64 sums rounded to float32.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_at_the_size_of_the_image(token):
    patches = attention_map(token.model, token.images, per_patch=True)
    found = attention_map(token.model, token.images)
    assert found.dtype == "float32" and found.shape == (2, 16, 16)
    # Beyond the patches' centres there is nothing to interpolate.
    for place, corner in (((0, 0), (0, 0)), ((15, 0), (1, 0)), ((15, 15), (1, 1))):
        np.testing.assert_allclose(found[:, *place], patches[:, *corner], rtol=1e-6)
    middle = found[:, 7:9, 7:9].mean(axis=(1, 2))
    np.testing.assert_allclose(middle, patches.mean(axis=(1, 2)), rtol=1e-5)


def test_batches_and_new_weights(token):
    """Compiled code keeps no old weights, and no batch depends on another."""
    model, images = create_model(token.config), images_for(token.config, number=3)
    old = attention_map(model, images, "relevance", batch_size=2, per_patch=True)
    randomise(model, seed=5)
    new = attention_map(model, images, "relevance", batch_size=2, per_patch=True)
    assert not np.allclose(old, new, atol=0.01)
    alone = attention_map(model, images[2:], "relevance", per_patch=True)
    np.testing.assert_allclose(new[2:], alone, **TOLERANCE)


def test_the_model_stays_as_it_was(token, tmp_path):
    before = run(token.model, token.images)
    attention_map(token.model, token.images, "relevance")
    np.testing.assert_array_equal(run(token.model, token.images), before)
    token.model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    found, expected = (
        attention_map(model, token.images, per_patch=True)
        for model in (loaded, token.model)
    )
    np.testing.assert_allclose(found, expected, **TOLERANCE)


def test_nothing_relevant_is_all_zero():
    model = create_model(TINY)
    model.get_layer("head").kernel.assign(np.zeros((16, 5)))
    assert not attention_map(model, images_for(TINY), "relevance").any()


def test_tokens_without_a_head(token):
    """A backbone is read at its class token, or at all patches."""
    features = create_model(token.config, task="features")
    features.set_weights(token.model.get_weights()[: len(features.weights)])
    for method in ("attention", "rollout"):
        found, expected = (
            attention_map(model, token.images, method)
            for model in (features, token.model)
        )
        np.testing.assert_allclose(found, expected, **TOLERANCE)
    patches = create_model(tiny(pooling=None, include_top=False))
    assert attention_map(patches, token.images).shape == (2, 16, 16)


def test_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomise(create_model(CONFIGS["map"]))
    finally:
        keras.config.set_dtype_policy(before)
    exact = Case(CONFIGS["map"])
    found = attention_map(model, exact.images, "relevance", per_patch=True)
    # Eight bits in every operation of two blocks; a uniform map is 0.16 away.
    expected = attention_map(exact.model, exact.images, "relevance", per_patch=True)
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "grad"}, "`method` must be one of attention, rollout, relevance"),
        ({"layer": 0}, "`layer` must be None unless method='attention'.*rollout"),
        ({"class_index": 0}, "`class_index` must be None unless method='relevance'"),
        ({"method": "attention", "layer": 2}, "`layer`.*-2 to 1.*layer=2"),
        ({"method": "attention", "head": -3}, "`head`.*-2 to 1.*head=-3"),
        ({"method": "relevance", "class_index": 5}, "`class_index`.*0 to 4.*=5"),
        ({"method": "relevance", "class_index": [1]}, "`class_index`.*2 images"),
        ({"method": "relevance", "class_index": 0.5}, "`class_index`.*integer.*0.5"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ],
)
def test_bad_options_are_named(token, options, words):
    with pytest.raises(ValueError, match=words):
        attention_map(token.model, token.images, **options)


def test_other_models_and_images_are_refused(token):
    with pytest.raises(ValueError, match=r"`images`.*\(16, 16, 3\).*\(16, 16, 3\)$"):
        attention_map(token.model, token.images[0])
    with pytest.raises(ValueError, match="`model`.*Sequential 'outer'"):
        attention_map(keras.Sequential([token.model], name="outer"), token.images)
    for model in (
        create_model(TINY, task="features"),
        create_model(TINY, include_top=False),
    ):
        with pytest.raises(ValueError, match="`method` must be 'attention' or 'roll"):
            attention_map(model, token.images, "relevance")


def test_a_model_that_is_not_used_any_more_is_freed():
    model = create_model(tiny(num_layers=1))
    attention_map(model, images_for(TINY), "relevance")
    seen = weakref.ref(model)
    del model
    gc.collect()
    assert seen() is None
