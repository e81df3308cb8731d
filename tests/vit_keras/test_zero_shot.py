"""Zero-shot classifiers of images and embedded texts, without another library."""

import keras
import numpy as np
import pytest

import vit_keras
from tests.models import images_for, randomise, run, tiny, weights_of
from vit_keras import create_model
from vit_keras.heads import probabilities
from vit_keras.labels import check_labels

LABELS = ("Katze", "猫", "a dog")
CLIP = {
    "pre_norm": True,
    "mlp_activation": "quick_gelu",
    "representation_size": 12,
    "representation_activation": "linear",
}
SIGLIP = {"pooling": "map", "mlp_activation": "gelu_tanh"}
# float32 sums of 16 products of order 1, times the scale.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def tower(**options):
    return randomise(create_model(tiny(include_top=False, **options)))


def texts(width, rows=3, seed=1):
    return np.random.default_rng(seed).normal(0, 3, (rows, width))


@pytest.fixture(scope="module")
def clip():
    return tower(**CLIP)


def cosines(model, images, embeddings):
    vectors = run(model, images).astype("float64")
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors @ (embeddings / np.linalg.norm(embeddings, axis=-1)[:, None]).T


def test_clip_is_a_softmax_of_scaled_cosines(clip):
    embeddings, images = texts(12), images_for(clip.config)
    model = vit_keras.zero_shot(clip, embeddings, LABELS, 20.0)
    logits = 20 * cosines(clip, images, embeddings)
    np.testing.assert_allclose(
        run(model, images), probabilities(logits, "softmax"), **TOLERANCE
    )
    assert np.ptp(run(model, images)) > 0.1  # else any two would be close
    config = model.config
    assert (config.head, config.activation) == ("softmax", "softmax")
    assert config.labels == LABELS and config.unit_norm and config.classes == 3
    assert model.output_shape == (None, 3) and model.task == "classify"
    plain = vit_keras.zero_shot(clip, embeddings, LABELS, 20.0, activation="linear")
    np.testing.assert_allclose(run(plain, images), logits, atol=2e-4)  # 20 times


def test_siglip_is_a_sigmoid_of_each():
    model = tower(**SIGLIP)
    embeddings, images = texts(16), images_for(model.config)
    # Scalars as they come from a file.
    scale, bias = np.float32([10.0]), np.array(-1.5)
    found = vit_keras.zero_shot(model, embeddings, LABELS, scale, bias, name="two")
    logits = 10 * cosines(model, images, embeddings) - 1.5
    np.testing.assert_allclose(
        run(found, images), probabilities(logits, "multi_label"), **TOLERANCE
    )
    config = found.config
    assert (config.head, config.activation) == ("multi_label", "sigmoid")
    assert found.name == "two" and config.labels == LABELS
    one_of = vit_keras.zero_shot(model, embeddings, LABELS, scale, bias, head="softmax")
    np.testing.assert_allclose(
        run(one_of, images), probabilities(logits, "softmax"), **TOLERANCE
    )


def test_weights_are_copied_to_the_last_bit(clip):
    model = vit_keras.zero_shot(clip, texts(12), LABELS, 20.0)
    ours, theirs = weights_of(model), weights_of(clip)
    assert set(ours) - set(theirs) == {"head/kernel", "head/bias"}
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)
    assert not ours["head/bias"].any()
    # A copy: training one does not change the other.
    before = theirs["class_token/token"]
    model.get_layer("class_token").token.assign(before + 1)
    np.testing.assert_array_equal(weights_of(clip)["class_token/token"], before)


def test_save_and_load(clip, tmp_path):
    model = vit_keras.zero_shot(clip, texts(12), LABELS, 20.0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    images = images_for(clip.config)
    np.testing.assert_array_equal(run(again, images), run(model, images))
    assert again.config == model.config and again.config.labels == LABELS


def test_a_vector_of_unit_length_stays_one():
    """The image model may have divided by the length itself."""
    plain, unit = tower(**CLIP), tower(**CLIP, unit_norm=True)
    images = images_for(plain.config)
    found = [
        run(vit_keras.zero_shot(model, texts(12), LABELS, 20.0), images)
        for model in (plain, unit)
    ]
    np.testing.assert_array_equal(*found)


WRONG = [
    ({"text_embeddings": texts(11)}, r"shape \(3, 12\).*Received: \(3, 11\)"),
    ({"text_embeddings": texts(12, 2)}, r"shape \(3, 12\).*Received: \(2, 12\)"),
    ({"text_embeddings": texts(12)[0]}, r"Received: \(12,\)"),
    ({"text_embeddings": texts(12) * [[1], [0], [1]]}, "all zeros.*1 rows.*is 1"),
    ({"text_embeddings": texts(12) * [[1], [1], [np.nan]]}, "finite.*first is 2"),
    ({"text_embeddings": texts(12) * [[np.inf], [1], [np.nan]]}, "2 rows.*is 0"),
    ({"labels": LABELS[:2]}, r"shape \(2, 12\).*Received: \(3, 12\)"),
    ({"labels": ["a", "b", "a"]}, "`labels` must differ.*twice: a"),
    ({"labels": ["a", " ", "b"]}, "one line of text each.*' ' as number 1"),
    ({"labels": ["a", "b\nc", "d"]}, "one line of text each"),
    ({"labels": ["a", 3, "d"]}, "`labels` must be a list of names"),
    ({"labels": "abc"}, "`labels` must be a list of names"),
    ({"labels": []}, "at least one name"),
    ({"text_embeddings": texts(12, 1), "labels": ["a"]}, "at least two for head='soft"),
    ({"logit_scale": 0.0}, "`logit_scale` must be above 0"),
    ({"logit_scale": -4.6}, "`logit_scale` must be above 0"),
    ({"logit_scale": np.nan}, "`logit_scale` must be a finite number"),
    ({"logit_scale": [1.0, 2.0]}, "`logit_scale` must be a finite number"),
    ({"logit_scale": None}, "`logit_scale` must be a finite number"),
    ({"logit_bias": np.inf}, "`logit_bias` must be a finite number"),
    ({"head": "sigmoid"}, "`head` must be one of softmax, multi_label"),
    ({"activation": "sigmoid"}, "must be one of linear, softmax for head='softmax'"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_what_does_not_fit_is_refused(clip, changes, message):
    good = {"text_embeddings": texts(12), "labels": LABELS, "logit_scale": 20.0}
    with pytest.raises(ValueError, match=message):
        vit_keras.zero_shot(clip, **{**good, **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: create_model(tiny()), "include_top=True"),
        (lambda: tower(pooling=None), "pooling=None"),
        (lambda: tower(distillation_token=True), "distillation_token=True"),
        (lambda: create_model(tiny(), task="features"), "task='features'"),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), "Received: Sequential"),
    ],
)
def test_other_models_are_refused(make, message):
    with pytest.raises(ValueError, match=f"`image_model` must.*{message}"):
        vit_keras.zero_shot(make(), texts(16), LABELS, 20.0)


def test_a_model_that_is_not_what_its_config_tells_is_refused(clip):
    pooled = clip.get_layer("pooling").output
    more = keras.layers.Dense(12, name="more")(pooled)
    changed = vit_keras.VisionTransformer(
        clip.input, more, "vit", config=clip.config, task="classify"
    )
    with pytest.raises(ValueError, match="weights that its config tells.*more/bias"):
        vit_keras.zero_shot(changed, texts(12), LABELS, 20.0)


def test_labels_are_what_was_given():
    assert check_labels(("a b", "c")) == ["a b", "c"]
