"""The Keras 2 twin: equal outputs, weights both ways, and tfmot's public functions."""

import keras
import numpy as np
import pytest

import export
from tests.export.test_tflite import VARIANTS
from tests.models import exported, images_for, slow_but

MORE = {
    "features": {"task": "features"},
    "tokens": {"pooling": None, "include_top": False},
    "vector": {"include_top": False, "fc_norm": True},
}


# The layers of these are those of `token`, on other images.
ALIKE = {"rectangle", "grey", "imagenet", "features"}


@pytest.mark.parametrize(
    "variant", slow_but(VARIANTS.keys() - ALIKE | {"vector"}, {**VARIANTS, **MORE})
)
def test_equal_outputs_and_weights_both_ways(variant):
    model = exported(**{**VARIANTS, **MORE}[variant])
    images, before = images_for(model.config, 4), model.get_weights()
    twin = export.to_tf_keras(model)
    # The same float32 operations, some in another order: 1e-6 for outputs of order 1.
    assert np.abs(model(images) - twin(images)).max() <= 1e-5
    model.set_weights([0 * w for w in before])
    assert export.from_tf_keras(twin, model) is model
    for old, new in zip(before, model.get_weights(), strict=True):
        assert np.array_equal(old, new)


def test_public_pruning_on_the_twin():
    """What tfmot offers for Keras 2: wrap, train, and bring the weights home."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    model = exported(num_layers=1)
    schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, 0, frequency=1)

    def wrap(layer):
        if isinstance(layer, tf_keras.layers.Dense) and layer.name != "head":
            return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule)
        return layer

    wrapped = tf_keras.models.clone_model(export.to_tf_keras(model), None, wrap)
    wrapped.set_weights(wrapped.get_weights())
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped.compile("adam", loss)
    images = images_for(model.config, 16)
    labels = np.arange(16) % 10
    steps = [tfmot.sparsity.keras.UpdatePruningStep()]
    wrapped.fit(images, labels, 8, epochs=2, verbose=0, callbacks=steps)
    stripped = tfmot.sparsity.keras.strip_pruning(wrapped)
    export.from_tf_keras(stripped, model)
    assert np.abs(model(images) - stripped(images)).max() <= 1e-5
    kernel = np.asarray(model.get_layer("encoderblock_0").mlp.dense1.kernel)
    assert np.mean(kernel == 0) == 0.5


@pytest.mark.parametrize("activation", ["gelu_tanh", "quick_gelu", "silu"])
def test_the_twin_is_saved_and_loaded(activation, tmp_path):
    import tf_keras

    options = {"mlp_activation": activation, "mlp_out_activation": "relu"}
    model = exported(num_layers=1, pooling="map", **options)
    twin, images = export.to_tf_keras(model), images_for(model.config)
    twin.save(tmp_path / "twin.keras")
    loaded = tf_keras.models.load_model(tmp_path / "twin.keras")
    assert np.array_equal(loaded(images), twin(images))
    assert np.abs(model(images) - twin(images)).max() <= 1e-5


def test_refused(model):
    around = keras.Sequential([keras.Input((32, 32, 3)), model])
    with pytest.raises(ValueError, match="not one around it"):
        export.to_tf_keras(around)
    other = exported(mlp_dim=32)
    with pytest.raises(
        ValueError, match=r"dense1/kernel' \(32, 64\) has .* \(32, 32\)"
    ):
        export.from_tf_keras(export.to_tf_keras(other), model)
