"""Files of models that merge similar tokens, and how many of them are merged."""

import keras
import numpy as np
import pytest
from PIL import Image

import export
from export.compression.macs import macs
from export.compression.tome_choice import schedules
from export.evaluation.parity import measure_parity
from tests import program
from tests.models import exported
from vit_keras import ViTConfig, create_model
from vit_keras.preprocessing import normalize

TOME = (6, 5, 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pooling": "gap", "class_token": False},
        pytest.param(
            {"num_register_tokens": 2, "qk_norm": True, "image_size": (32, 48)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"mlp_gated": True, "mlp_activation": "silu", "post_norm": True},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["class token", "gap", "registers", "gated"],
)
def test_a_float_file_merges_the_same_tokens(options, pixels, tmp_path):
    model = exported(num_layers=3, patch_size=4, tome=TOME, **options)
    if options.get("image_size"):
        pixels = np.concatenate([pixels, pixels[:, :, ::2]], axis=2)
    path = tmp_path / "m.tflite"
    report = export.to_tflite(model, path, calibration=pixels)
    # Two float32 programs; where an image's sums cancel, they differ more.
    assert report.parity.sqnr_db > 90 and report.parity.median_sqnr_db > 100
    assert {"TOPK_V2", "ARG_MAX", "GATHER"} <= set(report.operators)
    again = export.verify(model, path, pixels)
    assert again.passed and again.median_sqnr_db is not None
    assert "fold_norms" in report.rewrites


@pytest.mark.slow
def test_heads_apart_merge_the_same_tokens(pixels, tmp_path):
    model = exported(num_layers=3, patch_size=4, tome=TOME)
    options = {"heads_apart": True, "calibration": pixels}
    report = export.to_tflite(model, tmp_path / "m.tflite", **options)
    assert report.parity.sqnr_db > 100


def test_rounded_weights_are_judged_by_the_median_image(pixels, tmp_path):
    model = exported(num_layers=3, patch_size=4, tome=TOME)
    path, scheme = tmp_path / "m.tflite", "float16"
    report = export.to_tflite(model, path, scheme=scheme, calibration=pixels)
    assert report.parity.passed
    assert "of the median image" in str(report.parity)


def test_an_error_in_all_images_is_none_of_few():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((9, 10))
    few, each = reference.copy(), reference + 0.1 * rng.standard_normal((9, 10))
    few[:4] += 0.3 * rng.standard_normal((4, 10))
    assert not measure_parity(reference, few, 40).passed
    found = measure_parity(reference, few, 40, by_image=True)
    assert found.passed and found.sqnr_db < 40 < found.median_sqnr_db
    assert type(found).from_dict(found.to_dict()) == found
    assert not measure_parity(reference, each, 40, by_image=True).passed
    few[0] = np.nan
    assert not measure_parity(reference, few, 40, by_image=True).passed


def test_a_saved_model_merges_the_same_tokens(pixels, tmp_path):
    model = exported(num_layers=3, patch_size=4, tome=TOME)
    export.to_saved_model(model, tmp_path / "1")
    assert export.verify(model, tmp_path / "1", pixels[:4]).sqnr_db > 100


@pytest.mark.slow
def test_a_model_that_computes_in_half_precision(pixels, tmp_path):
    """It merges other tokens of some images than the file, which is in float32."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = exported(num_layers=3, patch_size=4, tome=TOME)
    finally:
        keras.config.set_dtype_policy("float32")
    report = export.to_tflite(model, tmp_path / "m.tflite", calibration=pixels)
    assert report.parity.sqnr_db > 90  # of the same model in float32


def test_integers_are_refused_with_the_other_way(pixels, tmp_path):
    model = exported(num_layers=3, patch_size=4, tome=TOME)
    around = keras.Sequential([keras.Input((32, 32, 3)), model])
    for one in (model, around):
        with pytest.raises(
            ValueError, match="dynamic_int4 for a model with `tome`.*0.5"
        ):
            export.to_tflite(one, tmp_path / "m", scheme="int8", calibration=pixels)
    with pytest.raises(ValueError, match="`model.config.tome` must be"):
        export.quantize_aware(model, pixels)
    with pytest.raises(ValueError, match=r"`shrink` does not know .*tome="):
        export.shrink(model, pixels, heads=1)
    with pytest.raises(ValueError, match=r"`shrink` does not know .*tome="):
        export.shrink(model, pixels, tokens=0.5)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_head_of_the_users_does_not_lose_the_sizes(pixels, tmp_path):
    """It may read sizes, which the rewritten ViT does not give: converted as it is."""
    model = exported(num_layers=3, patch_size=4, tome=TOME, pooling="gap")
    x, sizes = model.get_layer("encoderblock_2").output
    logits = keras.layers.Dense(3)(keras.ops.sum(x * sizes, axis=1) / 65)
    mine = keras.Model(model.input, logits)
    report = export.to_tflite(mine, tmp_path / "m.tflite", calibration=pixels)
    assert report.parity.sqnr_db > 80


def test_schedules():
    config = ViTConfig(image_size=32, patch_size=4, num_layers=3)  # 64 patches
    constant, falling = (schedules(config, shape) for shape in ("constant", "falling"))
    assert constant[0] == (1, 1, 1) and constant[20] == (21, 21, 11)
    assert constant[-1] == (32, 16, 8)
    assert falling[0] == (2, 1, 0) and falling[7] == (16, 8, 0)
    assert falling[-1] == (32, 16, 0)
    costs = [macs(config.replace(tome=tome)) for tome in constant]
    assert costs == sorted(costs, reverse=True)


def test_multiplications_of_merged_tokens():
    config = ViTConfig(
        image_size=32, patch_size=8, num_layers=2, hidden_size=8, num_heads=2
    ).replace(mlp_dim=16, classes=10)
    saved = macs(config) - macs(config.replace(tome=(3, 0)))
    # 17 tokens, then 14: three fewer in one MLP and in a whole block; 9 x 8 products of
    # 4 channels, and 3 tokens that are added to one of 8.
    block = [n * (4 * 8 * 8 + 2 * n * 8 + 2 * 8 * 16) for n in (17, 14)]
    assert saved == 3 * 2 * 8 * 16 + block[0] - block[1] - 9 * 8 * 4 - 3 * 8 * 8


@pytest.fixture(scope="module")
def trained(pixels):
    """A model that tells bright images from dark ones, and labels."""
    images = np.random.default_rng(1).integers(0, 128, (64, 32, 32, 3), "uint8")
    images[::2] += 100
    model = exported(num_layers=2, patch_size=8, classes=2, pooling="gap")
    x = normalize(images, model.config.preprocessing)
    labels = (np.arange(64) % 2 == 0).astype(int)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(x, labels, epochs=4, verbose=0)
    assert (model.predict(x, verbose=0).argmax(-1) == labels).mean() > 0.9
    return model, images, labels


def test_as_many_as_a_loss_allows(trained):
    model, images, labels = trained
    small = export.shrink(model, images, tokens="merge", max_drop=5.0, labels=labels)
    assert small.config.tome and macs(small.config) < 0.8 * macs(model.config)
    x = normalize(images, model.config.preprocessing)
    scores = [
        (m.predict(x, verbose=0).argmax(-1) == labels).mean() for m in (model, small)
    ]
    assert scores[1] >= scores[0] - 0.05
    with pytest.raises(ValueError, match="whose tokens are merged"):
        export.shrink(small, images, tokens="merge", max_drop=5.0)


@pytest.mark.slow
def test_a_time_that_is_reached_by_none_is_said(pixels):
    model = exported(num_layers=2, patch_size=8)
    with pytest.raises(ValueError, match="`max_ms` must be larger: .* on this machine"):
        export.shrink(model, pixels, tokens="merge", max_ms=1e-6)
    slow = export.shrink(model, pixels, tokens="merge", max_ms=1e6)
    assert slow.config.tome in ((1, 1), (2, 0))  # the least of either shape


def test_a_loss_that_is_reached_by_none_is_said(pixels):
    # Without what all images have in common, classes hang on little.
    model = exported(num_layers=2, patch_size=8)
    images = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), "uint8")
    x, head = normalize(images, model.config.preprocessing), model.get_layer("head")
    head.bias.assign(head.bias - model.predict(x, verbose=0).mean(0))
    with pytest.raises(ValueError, match="`max_drop` must be larger: merging 1 token"):
        export.shrink(model, images, tokens="merge", max_drop=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Either `max_drop` or `max_ms`"),
        ({"max_drop": 1.0, "max_ms": 1.0}, "Either `max_drop` or `max_ms`"),
        ({"max_drop": -1.0}, "`max_drop` must be a number above 0"),
        ({"max_drop": 1.0, "heads": 1}, "goes without"),
        (
            {"max_drop": 1.0, "labels": [0.5] * 3},
            "`labels` must be integers from 0 to 9",
        ),
        ({"max_drop": 1.0, "tokens": 0.5}, "belong to tokens='merge'"),
        ({"labels": np.arange(3), "tokens": 0.5}, "belong to tokens='merge'"),
    ],
)
def test_arguments_that_do_not_fit(options, message, pixels):
    model = exported(num_layers=3, patch_size=4)
    with pytest.raises(ValueError, match=message):
        export.shrink(model, pixels, **{"tokens": "merge", **options})


def test_values_have_no_accuracy_to_lose(pixels):
    model = exported(num_layers=3, patch_size=4, head="regression", classes=1)
    with pytest.raises(ValueError, match="needs a model of classes.*regression"):
        export.shrink(model, pixels, tokens="merge", max_drop=1.0)


def test_the_command_trains_nothing(trained, tmp_path):
    model, images, labels = trained
    names = model.config.replace(labels=("dark", "bright"))
    named = create_model(names)
    named.set_weights(model.get_weights())
    named.save(tmp_path / "model.keras")
    for index, image in enumerate(images):
        folder = tmp_path / "photos" / names.labels[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    command = ["vit-export", "prune", tmp_path / "model.keras"]
    command += ["--data", tmp_path / "photos", "--out", tmp_path / "faster"]
    command += ["--tokens", "merge"]
    program.refused(program.run(*command), "vit-export", "`max_drop` or `max_ms`")
    wrong = program.run(*command[:-1], "half", "--max-drop", "10")
    program.refused(wrong, "vit-export", "`--tokens`", "merge", "half")
    assert not (tmp_path / "faster").exists()
    done = program.run(*command, "--max-drop", "10")
    assert done.returncode == 0 and "held-out images" in done.stdout
    faster = keras.models.load_model(tmp_path / "faster" / "model.keras")
    assert faster.config.tome
    for a, b in zip(faster.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(a, b)
