"""Encoded images in the graph: the pixels of evaluation, and what is refused."""

import importlib.resources
import struct
import subprocess
import sys

import keras
import numpy as np
import pytest

from export.serving import resize
from export.serving.decode import LARGE, Decoder, Limits
from export.serving.image_headers import first_frame
from tests.export.pictures import (
    bad_items,
    encoded,
    evaluated,
    good_items,
    oriented,
    picture,
)
from tests.models import slow_but
from vit_keras import Preprocessing

if keras.backend.backend() != "tensorflow":
    pytest.skip("runs on TensorFlow alone", allow_module_level=True)
import tensorflow as tf


@pytest.mark.parametrize(
    "interpolation",
    slow_but(("bicubic", "bilinear"), ("bicubic", "bilinear", "lanczos", "nearest")),
)
def test_pixels_are_those_of_evaluation(interpolation):
    rules = Preprocessing(interpolation=interpolation, crop=0.9)
    items = good_items()
    pixels, valid = Decoder((32, 48), rules).batch(tf.constant(list(items.values())))
    assert valid.numpy().all()
    for name, item, got in zip(items, items.values(), pixels.numpy(), strict=True):
        wanted = evaluated(item, (32, 48), rules)
        assert np.abs(got - wanted.astype("float32")).max() <= 1, name


@pytest.mark.parametrize(
    ("interpolation", "resize", "crop", "most"),
    [
        pytest.param("bicubic", "stretch", 1.0, 0, marks=pytest.mark.slow),
        ("nearest", "stretch", 1.0, 0),
        ("bicubic", "contain", 1.0, 0),
        pytest.param("nearest", "contain", 1.0, 0, marks=pytest.mark.slow),
        ("bicubic", "stretch", 0.8, 1),  # a crop's box is rounded to float32
    ],
)
def test_whole_photographs_are_those_of_evaluation(interpolation, resize, crop, most):
    """Lossless items, so that the resampling alone is compared."""
    rules = Preprocessing((0.2, 0.4, 0.9), (0.5,) * 3, interpolation, crop, resize)
    for size in ((32, 48), (60, 20)):
        items = [
            encoded(picture(*shape), "PNG") for shape in ((40, 60), (7, 90), (33, 5))
        ]
        pixels, valid = Decoder(size, rules).batch(tf.constant(items))
        assert valid.numpy().all()
        wanted = np.stack([evaluated(item, size, rules) for item in items])
        assert np.abs(pixels.numpy() - wanted.astype("float32")).max() <= most


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


def test_image_in_strips_is_the_image(monkeypatch):
    """Also in a batch that is decoded one image at a time, because one is large."""
    items = [encoded(picture(*shape), "PNG") for shape in ((40, 60), (90, 7), (5, 3))]
    limits = Limits(max_pixels=LARGE * 1000)
    rules = Preprocessing((0.2, 0.4, 0.9), (0.5,) * 3)
    whole, _ = Decoder((8, 6), rules).batch(tf.constant(items))
    monkeypatch.setattr(resize, "STRIP", 100)
    pixels, valid = Decoder((8, 6), rules, limits).batch(tf.constant(items))
    assert valid.numpy().all()
    np.testing.assert_array_equal(pixels, whole)


def test_only_the_first_frame_of_a_gif_is_read():
    first, *others = (picture(60, 40, seed).quantize(16) for seed in range(5))
    several = encoded(first, "GIF", save_all=True, append_images=others)
    cut = first_frame(tf.constant(several)).numpy()
    assert several.startswith(cut[:-1]) and cut.endswith(b";")
    assert len(cut) < len(several) / 3
    pixels, valid = Decoder((32, 32), Preprocessing()).batch(
        tf.constant([several, encoded(first, "GIF")])
    )
    assert valid.numpy().all()
    np.testing.assert_array_equal(*pixels.numpy())


def test_frame_larger_than_the_screen_is_bad():
    """The limits know the screen, the decoder takes memory for the frame."""
    item = bytearray(encoded(picture(60, 40).quantize(16), "GIF"))
    item[6:10] = struct.pack("<HH", 30, 20)
    _, valid = Decoder((32, 32), Preprocessing()).batch(tf.constant([bytes(item)]))
    assert not valid.numpy().any()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bombs_take_little_memory():
    """Of 49 megapixels in 100 KB, and 60 frames of 9 in 500 KB; eight of each."""
    code = """
import io, pathlib, numpy as np, tensorflow as tf
from PIL import Image
from export.serving.decode import Decoder
from vit_keras import Preprocessing

def resident(name):
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split(name + ":")[1].split()[0]) / 1024

def encoded(images, kind, **options):
    file = io.BytesIO()
    images[0].save(file, kind, **options)
    return file.getvalue()

frames = [Image.fromarray(np.full((3000, 3000), i, "uint8")) for i in range(60)]
gif = encoded(frames, "GIF", save_all=True, append_images=frames[1:])
del frames
png = encoded([Image.new("RGB", (7000, 7000))], "PNG")
run = tf.function(Decoder((32, 32), Preprocessing()).batch)
run(tf.constant([png[:99]]))
for item in (png, gif):
    before = resident("VmRSS")
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    _, valid = run(tf.constant([item] * 8))
    print(bool(tf.reduce_all(valid)), resident("VmHWM") - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    for line in done.stdout.splitlines()[-2:]:
        valid, megabytes = line.split()
        # Before large images were decoded one by one, in strips: 1800 and 900.
        assert valid == "True" and float(megabytes) < 450


@pytest.mark.parametrize("name", slow_but(("china.jpg",), ("china.jpg", "flower.jpg")))
def test_photographs(name):
    """The two that scikit-learn brings, 640x427."""
    pytest.importorskip("sklearn")
    folder = importlib.resources.files("sklearn.datasets.images")
    item = folder.joinpath(name).read_bytes()
    for size, interpolation, crop in (
        ((224, 224), "bicubic", 1.0),
        ((224, 224), "bilinear", 0.875),
        ((160, 256), "lanczos", 1.0),
        ((518, 518), "bicubic", 0.9),  # larger than the photograph
        ((32, 32), "nearest", 1.0),
    ):
        rules = Preprocessing(interpolation=interpolation, crop=crop)
        pixels, valid = Decoder(size, rules).batch(tf.constant([item]))
        wanted = evaluated(item, size, rules).astype("float32")
        assert valid[0] and np.abs(pixels[0].numpy() - wanted).max() <= 1


def test_what_evaluation_can_not_read_is_bad():
    """Of the formats that are served; others may be readable to Pillow."""
    others = ("tiff", "avif", "animated webp", "strip", "packed bmp", "large jpeg")
    others += ("gif like webp",)
    for name, item in bad_items().items():
        if name not in others:
            with pytest.raises(ValueError, match="cannot read"):
                evaluated(item, (32, 32), Preprocessing())
