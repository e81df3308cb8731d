"""What a model is to learn: trainable parts, and the answers of a teacher."""

import keras
import numpy as np
import pytest

from tests.models import tiny
from tests.vit_keras.training.runs import SHORT, SIZES
from vit_keras import create_model
from vit_keras.preprocessing import Preprocessing, normalize
from vit_keras.training.objective import freeze, open_teacher


@pytest.mark.parametrize(
    ("what", "frozen"),
    [
        (None, ()),
        (
            "backbone",
            ("embedding", "class_token", "encoderblock", "encoder_norm", "posembed"),
        ),
        (2, ("embedding", "class_token", "encoderblock", "posembed")),
        (1, ("embedding", "class_token", "encoderblock_0", "posembed")),
        (0, ("embedding", "class_token", "posembed")),
    ],
)
def test_freeze(what, frozen):
    recipe = SHORT.replace(model={**SIZES, "num_layers": 2})
    model = create_model(**recipe.model_arguments(10))
    freeze(model, what)
    paths = {w.path for w in model.trainable_weights}
    assert paths == {w.path for w in model.weights if not w.path.startswith(frozen)}
    if what == "backbone":
        assert paths == {"head/kernel", "head/bias"}


def test_freeze_more_than_there_are():
    with pytest.raises(ValueError, match="`freeze` must be at most 1.*=3"):
        freeze(create_model(**SHORT.model_arguments(10)), 3)


STUDENT = tiny(image_size=8, patch_size=4)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3))
IMAGES = normalize(PIXELS, STUDENT.preprocessing)


def taught(model, folder, **changes):
    """The function that answers as a saved model does."""
    model.save(folder / "teacher.keras")
    recipe = SHORT.replace(teacher=str(folder / "teacher.keras"), **changes)
    return open_teacher(recipe, STUDENT)


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


@pytest.mark.parametrize("activation", ["linear", "softmax"])
def test_answers_of_a_teacher(tmp_path, activation):
    """Of logits and of probabilities the same, and of the pixels that it knows."""
    preprocessing = Preprocessing(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    config = STUDENT.replace(activation=activation, preprocessing=preprocessing)
    teacher = create_model(config)
    outputs = np.asarray(teacher.predict_on_batch(normalize(PIXELS, preprocessing)))
    logits = outputs if activation == "linear" else np.log(outputs)
    soft = taught(teacher, tmp_path, distillation="soft", temperature=3.0)(IMAGES)
    assert soft.dtype == np.float32
    # Two normalisations of order 1 in float32, through a small model.
    np.testing.assert_allclose(soft, softmax(logits / 3.0), atol=1e-5)
    hard = taught(teacher, tmp_path, distillation="hard")(IMAGES)
    np.testing.assert_array_equal(hard, np.eye(5)[logits.argmax(-1)])


def test_any_keras_model_teaches(tmp_path):
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    teacher = keras.Model(inputs, outputs)
    expected = softmax(np.asarray(teacher.predict_on_batch(IMAGES)))
    answers = taught(teacher, tmp_path, distillation="soft")(IMAGES)
    np.testing.assert_allclose(answers, expected, atol=1e-6)


def test_teacher_of_other_images_or_classes_is_refused(tmp_path):
    for changes in ({"classes": 7}, {"image_size": 12}):
        with pytest.raises(ValueError, match=r"`teacher` must take images \(8, 8, 3\)"):
            taught(create_model(STUDENT.replace(**changes)), tmp_path)
