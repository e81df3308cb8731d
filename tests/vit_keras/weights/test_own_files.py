"""The files of this package as checkpoints."""

import keras
import numpy as np
import pytest

from tests.models import images_for, randomise, run, tiny
from tests.vit_keras.weights.golden_files import (
    SIZES,
    TOLERANCE,
    equal,
    refused,
    values,
)
from vit_keras import (
    CheckpointError,
    Preprocessing,
    create_model,
    from_checkpoint,
    load_weights,
)
from vit_keras.weights.resize import resize_positions


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A model with every kind of token, and its two files."""
    folder = tmp_path_factory.mktemp("own")
    config = tiny(
        image_size=(16, 24),
        num_register_tokens=2,
        layer_scale_init_value=0.1,
        mlp_activation="gelu_tanh",
        preprocessing=Preprocessing(crop=0.75),
        dropout=0.1,
    )
    model = randomise_weights(create_model(config, name="mine"))
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    return model, folder


def randomise_weights(model):
    """`randomise`, but not of the random state of dropout."""
    state = {w.path: w.value for w in model.weights if "seed" in w.path}
    randomise(model, seed=3)
    for weight in model.weights:
        if weight.path in state:
            weight.assign(state[weight.path])
    return model


def trained(model):
    return {p: v for p, v in values(model).items() if "seed_generator" not in p}


def test_a_keras_file_is_a_checkpoint(own):
    source, folder = own
    model = from_checkpoint(folder / "model.keras")
    assert model.config == source.config
    equal(trained(model), trained(source))
    model = randomise_weights(create_model(source.config))
    model.get_layer("head").kernel.assign(model.get_layer("head").kernel + 1.0)
    report = load_weights(model, folder / "model.keras")
    assert report.layout == "vit_keras" and len(report.loaded) == len(trained(source))
    equal(trained(model), trained(source))


def test_a_keras_file_at_another_size_and_for_other_classes(own):
    source, folder = own
    with pytest.warns(UserWarning, match="left fresh: head/kernel, head/bias"):
        model = from_checkpoint(folder / "model.keras", image_size=(32, 16), classes=9)
    assert model.config == source.config.replace(image_size=(32, 16), classes=9)
    before, after = trained(source), trained(model)
    path = "posembed_input/embedding"
    table = before[path][0, 3:].reshape(2, 3, -1)
    expected = resize_positions(table, (4, 2), "bicubic_antialias").reshape(8, -1)
    np.testing.assert_allclose(after[path][0, 3:], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(after[path][0, :3], before[path][0, :3])
    for name in before.keys() - {path, "head/kernel", "head/bias"}:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_keras_file_into_a_preset(own):
    source, folder = own
    fields = {f: getattr(source.config, f) for f in SIZES}
    model = create_model("vit_ti16", weights=folder / "model.keras", **fields)
    assert model.config.num_register_tokens == 2
    assert model.config.preprocessing == source.config.preprocessing
    images = images_for(source.config)
    np.testing.assert_allclose(
        run(model, images), run(source, images), rtol=0, atol=TOLERANCE
    )


def test_a_keras_file_of_another_model_is_refused(tmp_path):
    path = tmp_path / "other.keras"
    inputs = keras.Input((3,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(path)
    with pytest.raises(CheckpointError, match="must hold a model of this package"):
        from_checkpoint(path)
    other = keras.layers.Lambda(lambda x: x * 2)(inputs)
    keras.Model(inputs, other).save(path)
    with refused(model := create_model(tiny()), [str(path), "cannot be opened"]) as c:
        load_weights(model, path)
    assert "\n" not in str(c.value)


def test_own_weights_for_the_same_architecture(own):
    source, folder = own
    path = folder / "model.weights.h5"
    report = load_weights(model := create_model(source.config), path)
    assert report.layout == "vit_keras" and len(report.loaded) == len(model.weights)
    equal(trained(model), trained(source))
    model = create_model(source.config, weights=path)
    equal(trained(model), trained(source))


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32},
        {"classes": 7},
        {"num_layers": 1},
        {"num_layers": 3},
        {"num_register_tokens": 0},
        {"image_size": 16},
    ],
)
def test_own_weights_for_another_architecture_are_refused(own, changes):
    source, folder = own
    path = folder / "model.weights.h5"
    model = create_model(source.config.replace(**changes))
    with refused(model, ["of this architecture", str(path)]) as caught:
        load_weights(model, path)
    assert "\n" not in str(caught.value)


def test_own_weights_do_not_tell_the_architecture(own):
    _, folder = own
    with pytest.raises(ValueError, match="holds weights only.*a .keras file tells"):
        from_checkpoint(folder / "model.weights.h5")
