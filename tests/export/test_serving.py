"""What clients of a SavedModel get: encoded images, bad ones among them."""

import base64
import io
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

import export
from export.formats.serving import SIGNATURES
from export.formats.serving_graph import Decoder, Limits
from tests.models import exported
from vit_keras import Preprocessing
from vit_keras import preprocessing as pp

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import tensorflow as tf

HERE = pathlib.Path(__file__).parent
LABELS = ["zero", "één", *map(str, range(2, 10))]


def picture(width=70, height=50, seed=0):
    """A smooth photograph-like image with noise and edges."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    base = np.stack([rows * 3, columns * 2, rows + columns], -1) % 256
    noise = generator.normal(0, 12, base.shape)
    return Image.fromarray((base + noise).clip(0, 255).astype("uint8"))


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(value, kind="JPEG"):
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(picture(), kind, exif=exif)


def png_of(width, height):
    """A PNG whose header promises a size, with little behind it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b""
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000))):
        crc = struct.pack(">I", zlib.crc32(name + content))
        chunks += struct.pack(">I", len(content)) + name + content + crc
    return b"\x89PNG\r\n\x1a\n" + chunks


def good_items():
    rgb = picture()
    grey16 = Image.fromarray((np.arange(3500).reshape(50, 70) * 18).astype("uint16"))
    return {
        "jpeg": encoded(rgb, quality=90),
        "progressive": encoded(rgb, progressive=True, quality=80),
        "4:4:4": encoded(rgb, subsampling=0),
        "grey jpeg": encoded(rgb.convert("L")),
        "cmyk": encoded(rgb.convert("CMYK")),
        "png": encoded(rgb, "PNG"),
        "alpha": encoded(rgb.convert("RGBA"), "PNG"),
        "palette": encoded(rgb.quantize(16), "PNG"),
        "grey png": encoded(rgb.convert("L"), "PNG"),
        "16 bits": encoded(grey16, "PNG"),
        "gif": encoded(rgb.quantize(64), "GIF"),
        "animated": encoded(
            rgb.quantize(64),
            "GIF",
            save_all=True,
            append_images=[picture(seed=1).quantize(64)],
        ),
        "bmp": encoded(rgb, "BMP"),
        "webp": encoded(rgb, "WEBP", lossless=True),
        "one pixel": encoded(picture(1, 1), "PNG"),
        "large": encoded(picture(900, 700)),
        **{f"orientation {i}": oriented(i) for i in range(1, 9)},
        "orientation of a png": oriented(6, "PNG"),
    }


# Where Pillow and TensorFlow disagree about what the file says: 16 bits are clipped by
# the one and scaled by the other, and CMYK is turned into RGB by different formulas.
UNLIKE = ("16 bits", "cmyk")


def bad_items():
    jpeg, png = encoded(picture()), encoded(picture(), "PNG")
    broken = bytearray(png)
    broken[60] ^= 255
    return {
        "empty": b"",
        "zero bytes": b"\0" * 1000,
        "junk": b"not an image",
        "base64": base64.b64encode(jpeg),
        "truncated jpeg": jpeg[: len(jpeg) // 2],
        "jpeg header": jpeg[:4],
        "truncated png": png[: len(png) // 2],
        "broken png": bytes(broken),
        "tiff": encoded(picture(), "TIFF"),
        "huge png": png_of(30000, 30000),
        "large png": png_of(9000, 9000),
        "strip": encoded(picture(20000, 1), "PNG"),
        "huge bmp": b"BM" + b"\0" * 16 + struct.pack("<ii", 50000, 50000) + b"\0" * 99,
        "huge gif": b"GIF89a" + struct.pack("<HH", 65000, 65000) + b"\0" * 99,
        "huge webp": b"RIFF\0\0\0\0WEBPVP8X"
        + b"\x0a\0\0\0\0\0\0\0"
        + b"\xff\xff\x00" * 2
        + b"\0" * 99,
        "text": "ein Bild".encode("utf-16"),
    }


@pytest.fixture(scope="module")
def model():
    return exported()


@pytest.fixture(scope="module")
def servable(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("servable") / "vit" / "1"
    export.to_saved_model(
        model, path, labels=LABELS, signatures=list(SIGNATURES), warmup=(1, 2), top_k=3
    )
    return path


@pytest.fixture(scope="module")
def signatures(servable):
    return tf.saved_model.load(str(servable)).signatures


def evaluated(item, size, rules):
    """The pixels that evaluation sees of an encoded image."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(item)
        file.flush()
        return pp.load_image(file.name, size, rules)


def expected(model, items):
    """What the Keras model says, on images as evaluation reads them."""
    rules, size = model.config.preprocessing, model.config.image_size
    pixels = [evaluated(item, size, rules) for item in items]
    return model.predict(pp.normalize(np.stack(pixels), rules), verbose=0)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "nearest"])
def test_pixels_are_those_of_evaluation(interpolation):
    rules = Preprocessing(interpolation=interpolation, crop=0.9)
    items = {n: i for n, i in good_items().items() if n not in UNLIKE}
    pixels, valid = Decoder((32, 48), rules).batch(tf.constant(list(items.values())))
    assert valid.numpy().all()
    for name, item, got in zip(items, items.values(), pixels.numpy(), strict=True):
        wanted = evaluated(item, (32, 48), rules)
        assert np.abs(got - wanted.astype("float32")).max() <= 1, name


def test_grey_models_get_grey_images():
    rules = Preprocessing(mean=(0.5,), std=(0.5,))
    item = good_items()["jpeg"]
    pixels, _ = Decoder((28, 28), rules).batch(tf.constant([item]))
    wanted = evaluated(item, (28, 28), rules)
    assert np.abs(pixels[0].numpy() - wanted).max() <= 1


def test_orientation_can_be_left_alone():
    rules = Preprocessing()
    upright, as_stored = (
        Decoder((32, 32), rules, exif=exif).batch(tf.constant([oriented(6)]))[0].numpy()
        for exif in (True, False)
    )
    assert np.abs(upright - as_stored).max() > 50


def test_limits_are_checked_before_decoding():
    item = tf.constant([encoded(picture(200, 100))])
    for limits in (
        Limits(max_pixels=19_999),
        Limits(max_bytes=1000),
        Limits(max_aspect=1),
    ):
        _, valid = Decoder((32, 32), Preprocessing(), limits).batch(item)
        assert not valid.numpy().any(), limits
    assert Decoder((32, 32), Preprocessing(), Limits(max_pixels=20_000)).batch(item)[1][
        0
    ]
    with pytest.raises(ValueError, match="`max_aspect` must be at least 1"):
        Limits(max_aspect=0)


def test_bad_items_harm_no_other(model, signatures):
    good, bad = good_items(), bad_items()
    mixed = [
        item for pair in zip(good.values(), bad.values(), strict=False) for item in pair
    ]
    mixed += list(good.values())[len(bad) :]
    answers = signatures["predict_bytes"](image_bytes=tf.constant(mixed))
    answers = {name: value.numpy() for name, value in answers.items()}
    known = set(good.values())
    valid = np.array([item in known for item in mixed])
    np.testing.assert_array_equal(answers["valid"], valid)
    like = np.array([item in known and item not in _unlike() for item in mixed])
    logits = expected(model, [item for item, ok in zip(mixed, like, strict=True) if ok])
    np.testing.assert_allclose(answers["logits"][like], logits, atol=5e-5)
    ids = np.argsort(-logits, 1)[:, :3]
    np.testing.assert_array_equal(answers["top_ids"][like], ids)
    assert answers["top_labels"][like][0, 0].decode() == LABELS[ids[0, 0]]
    np.testing.assert_allclose(answers["probabilities"][like].sum(1), 1, rtol=1e-5)
    for name, neutral in (("logits", 0), ("top_ids", -1), ("top_labels", b"")):
        assert (answers[name][~valid] == neutral).all()
    assert all(np.isfinite(answers[n]).all() for n in ("logits", "probabilities"))


def _unlike():
    return {item for name, item in good_items().items() if name in UNLIKE}


def test_empty_batch_and_batch_of_bad_items(signatures):
    predict = signatures["predict_bytes"]
    assert predict(image_bytes=tf.constant([], tf.string))["logits"].shape == (0, 10)
    assert not predict(image_bytes=tf.constant([b"", b"x"]))["valid"].numpy().any()


def test_classification_api(signatures, servable):
    item = good_items()["jpeg"]
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(item)
    answer = signatures["classify"](
        inputs=tf.constant([example.SerializeToString(), b"no example"])
    )
    whole = signatures["predict_bytes"](image_bytes=tf.constant([item]))
    np.testing.assert_array_equal(answer["classes"][0], whole["top_labels"][0])
    assert (answer["classes"][1].numpy() == b"").all()
    graph = tf.compat.v1.saved_model.load(
        tf.compat.v1.Session(graph=tf.Graph()), ["serve"], str(servable)
    )
    for name, kind in SIGNATURES.items():
        assert graph.signature_def[name].method_name == kind.method


def test_features_and_attention(model, signatures):
    items = [good_items()["jpeg"], b"bad"]
    rules = model.config.preprocessing
    pixels = evaluated(items[0], (32, 32), rules)
    images = pp.normalize(pixels[None], rules)
    found = signatures["features"](image_bytes=tf.constant(items))
    tokens = keras.Model(model.input, model.get_layer("encoder_norm").output)
    np.testing.assert_allclose(found["tokens"][:1], tokens(images), atol=1e-5)
    np.testing.assert_allclose(found["pooled"][0], found["tokens"][0, 0], atol=1e-6)
    found = signatures["attention"](image_bytes=tf.constant(items))["attention"]
    from vit_keras.attention_maps import attention_scores

    scores = attention_scores(model, images).swapaxes(0, 1)
    np.testing.assert_allclose(found[:1], scores, atol=1e-6)
    assert not found[1].numpy().any()


def test_c_loader_answers_without_python(model, servable):
    session = tf.compat.v1.Session(graph=tf.Graph())
    graph = tf.compat.v1.saved_model.load(session, ["serve"], str(servable))
    signature = graph.signature_def["predict_bytes"]
    names = {key: value.name for key, value in signature.outputs.items()}
    good = {n: i for n, i in good_items().items() if n not in UNLIKE}
    items = [*good.values(), *bad_items().values()]
    done = subprocess.run(
        [
            *(sys.executable, HERE / "in_c_api.py", servable),
            *(signature.inputs["image_bytes"].name, json.dumps(names)),
        ],
        input=json.dumps([base64.b64encode(item).decode() for item in items]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["valid"] == [True] * len(good) + [False] * len(bad_items())
    logits = expected(model, good.values())
    np.testing.assert_allclose(found["logits"][: len(good)], logits, atol=5e-5)
    ids = np.argsort(-logits, 1)[:, :3]
    np.testing.assert_array_equal(found["top_ids"][: len(good)], ids)
    assert found["top_labels"][0] == [LABELS[i] for i in ids[0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"signatures": ["regress"]}, "serving_default, predict_bytes"),
        ({"labels": ["two\nlines", *"123456789"]}, "one line each"),
        ({"top_k": 0}, "`top_k` must be an integer >= 1"),
        ({"warmup": [0]}, "`warmup` must be integers >= 1"),
        ({"warmup": range(1, 400)}, "at most 200 sizes"),
    ],
)
def test_arguments_are_checked(model, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export.to_saved_model(model, tmp_path / "1", **options)
    assert not list(tmp_path.iterdir())


def test_model_without_preprocessing_takes_arrays_only(tmp_path):
    inputs = keras.Input((8, 8, 3))
    other = keras.Model(
        inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)), name="other"
    )
    with pytest.raises(ValueError, match="`preprocessing` must be given"):
        export.to_saved_model(other, tmp_path / "1")
    export.to_saved_model(other, tmp_path / "1", signatures=["serving_default"])
