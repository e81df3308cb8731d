"""From a file to the network's input: formats, broken files, geometry, arithmetic."""

import io

import numpy as np
import pytest
from PIL import Image

from vit_keras import Preprocessing
from vit_keras.preprocessing import (
    INTERPOLATIONS,
    ImageError,
    fit,
    load_image,
    normalize,
    read_image,
)

PLAIN = Preprocessing()


def picture(height=12, width=10):
    """A smooth image, whose JPEG is close to it; every corner differs."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 255 // width, y * 255 // height, 255 - (x + y) * 5]
    return np.stack(channels, axis=-1).astype("uint8")


def encode(pixels, kind, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        # Lossy: seen at most 9 and 13 grey levels on this smooth image.
        ("JPEG", {"quality": 95, "subsampling": 0}, 20),
        ("WEBP", {"quality": 95}, 30),
    ],
)
def test_formats(kind, options, tolerance):
    pixels = read_image(encode(picture(), kind, **options))
    assert pixels.dtype == "uint8"
    assert pixels.shape == (12, 10, 3)
    assert np.abs(pixels.astype(int) - picture()).max() <= tolerance


def test_bytes_path_and_string_are_the_same(tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(encode(picture(), "PNG"))
    for source in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(read_image(source), picture())


def test_grey_is_repeated():
    grey = picture()[..., 0]
    pixels = read_image(encode(grey, "PNG"))
    np.testing.assert_array_equal(pixels, np.stack([grey] * 3, axis=-1))


def test_one_channel():
    grey = picture()[..., 0]
    pixels = read_image(encode(grey, "PNG"), channels=1)
    np.testing.assert_array_equal(pixels, grey[..., None])
    # Colour becomes luma, ITU-R 601, which Pillow rounds.
    luma = read_image(encode(picture(), "PNG"), channels=1)[..., 0]
    expected = picture() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - expected).max() < 1


def test_black_and_white():
    bits = picture()[..., 0] > 100
    pixels = read_image(encode(Image.fromarray(bits), "PNG"))
    np.testing.assert_array_equal(pixels, np.stack([bits * 255] * 3, axis=-1))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_dropped(kind):
    # Not 0: WebP may change what cannot be seen.
    alpha = np.full((12, 10, 1), 7, "uint8")
    rgba = np.concatenate([picture(), alpha], axis=-1)
    options = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read_image(encode(rgba, kind, **options)), picture())


def test_grey_with_alpha():
    image = Image.fromarray(picture()[..., 0]).convert("LA")
    pixels = read_image(encode(image, "PNG"))
    np.testing.assert_array_equal(pixels[..., 2], picture()[..., 0])


@pytest.mark.parametrize(
    "options", [{}, {"transparency": 1}, {"transparency": bytes([0, 128, 255])}]
)
def test_palette(options):
    """Also with transparency: one entry, or an alpha value for each."""
    image = Image.fromarray(picture()).quantize(8)
    pixels = read_image(encode(image, "PNG", **options))
    np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


def test_sixteen_bits_are_scaled():
    wide = np.array([[0, 128, 129, 257, 32896, 65535]], "uint16")
    pixels = read_image(encode(wide, "PNG"))
    # 65535 / 257 = 255; 128 / 257 is just below a half, 129 / 257 above.
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]
    assert pixels.shape == (1, 6, 3)


def test_cmyk_jpeg():
    image = Image.fromarray(picture()).convert("CMYK")
    pixels = read_image(encode(image, "JPEG", quality=95))
    # Lossy as above; without the conversion the values would be inverted.
    assert np.abs(pixels.astype(int) - picture()).max() <= 30


def test_animation_gives_its_first_frame():
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    stream = encode(first, "GIF", save_all=True, append_images=[second])
    assert read_image(stream)[0, 0].tolist() == [255, 0, 0]


# EXIF 2.3, tag 274: what has to be done with the stored rows and columns.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    pixels = read_image(encode(picture(), "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, ORIENTATIONS[orientation](picture()))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_file(kind, share, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), "uint8")
    content = encode(noise, kind)
    path = tmp_path / "half.img"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageError, match="half.img"):
        read_image(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"this is no image\n" * 50, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"],
    ids=["empty", "zero", "text", "png_signature", "jpeg_signature"],
)
def test_file_without_image(content, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="broken.jpg"):
        read_image(path)
    with pytest.raises(ImageError, match="image bytes"):
        read_image(content)


def test_image_error_is_a_value_error():
    assert issubclass(ImageError, ValueError)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")


def test_directory_is_no_image(tmp_path):
    with pytest.raises(ImageError, match="cannot read"):
        read_image(tmp_path)


def test_decompression_bomb():
    """More than twice Pillow's limit of pixels, in a file of some hundred kB."""
    limit = Image.MAX_IMAGE_PIXELS
    assert limit is not None
    side = int((2 * limit) ** 0.5) + 1
    with pytest.raises(ImageError, match="decompression bomb"):
        read_image(encode(Image.new("1", (side, side)), "PNG"))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(6, 5), (24, 20), (36, 30)])
def test_fit_of_the_same_ratio_is_pillows_resize(interpolation, size):
    pixels = picture()
    expected = Image.fromarray(pixels).resize(size[::-1], INTERPOLATIONS[interpolation])
    actual = fit(pixels, size, Preprocessing(interpolation=interpolation))
    np.testing.assert_array_equal(actual, np.asarray(expected))


def test_fit_of_the_same_size_changes_nothing():
    np.testing.assert_array_equal(fit(picture(), (12, 10), PLAIN), picture())


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((10, 10), slice(1, 11), slice(0, 10)),
        ((12, 4), slice(0, 12), slice(3, 7)),
        ((12, 10), slice(0, 12), slice(0, 10)),
    ],
)
def test_fit_crops_the_centre(size, rows, columns):
    """Sizes at which nothing is resized: the crop alone, pixel for pixel."""
    nearest = Preprocessing(interpolation="nearest")
    actual = fit(picture(), size, nearest)
    np.testing.assert_array_equal(actual, picture()[rows, columns])


def test_crop_keeps_its_share_of_the_centre():
    half = Preprocessing(interpolation="nearest", crop=0.5)
    square = picture(16, 16)
    np.testing.assert_array_equal(fit(square, (8, 8), half), square[4:12, 4:12])


def test_crop_of_an_image_that_has_the_size_already():
    half = Preprocessing(crop=0.5)
    square = picture(16, 16)
    expected = Image.fromarray(square).resize(
        (16, 16), Image.Resampling.BICUBIC, box=(4, 4, 12, 12)
    )
    np.testing.assert_array_equal(fit(square, (16, 16), half), np.asarray(expected))


@pytest.mark.parametrize("shape", [(3000, 1, 3), (1, 3000, 3), (1, 1, 3), (3, 2, 1)])
@pytest.mark.parametrize("crop", [1.0, 0.3])
def test_fit_of_a_thin_image(shape, crop):
    pixels = np.full(shape, 77, "uint8")
    actual = fit(pixels, (32, 24), Preprocessing(crop=crop))
    assert actual.shape == (32, 24, shape[-1])
    assert (actual == 77).all()


def test_fit_of_a_thin_image_takes_its_middle():
    pixels = np.zeros((3000, 1, 3), "uint8")
    pixels[1490:1510] = 200
    assert (fit(pixels, (16, 16), PLAIN) == 200).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_load_image(channels):
    preprocessing = Preprocessing((0.5,) * channels, (0.5,) * channels, crop=0.9)
    content = encode(picture(30, 40), "PNG")
    pixels = load_image(content, (8, 16), preprocessing)
    assert pixels.dtype == "uint8"
    assert pixels.shape == (8, 16, channels)
    expected = fit(read_image(content, channels), (8, 16), preprocessing)
    np.testing.assert_array_equal(pixels, expected)


IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("preprocessing", [PLAIN, IMAGENET], ids=["plain", "imagenet"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_normalize_equals_the_formula(preprocessing, dtype):
    pixels = picture().astype(dtype)
    expected = (picture() / 255.0 - preprocessing.mean) / preprocessing.std
    actual = normalize(pixels, preprocessing)
    assert actual.dtype == "float32"
    # Scale, product and sum, each rounded to float32, on values up to 5.
    np.testing.assert_allclose(actual, expected, atol=1e-6)
    scale, offset = preprocessing.scale_and_offset()
    # The same formula in another order, in float64.
    np.testing.assert_allclose(picture() * scale + offset, expected, atol=1e-12)


def test_normalize_maps_to_minus_one_and_one():
    extremes = np.array([[[0, 0, 0], [255, 255, 255]]], "uint8")
    # Two float32 roundings of values up to 2.
    np.testing.assert_allclose(
        normalize(extremes, PLAIN)[0], [[-1] * 3, [1] * 3], atol=1e-6
    )


def test_normalize_leaves_its_input():
    pixels = picture().astype("float32")
    normalize(pixels, PLAIN)
    np.testing.assert_array_equal(pixels, picture())


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 4, 4), (4, 3), (3,), (3, 4, 5)])
def test_normalize_refuses_other_channels(shape):
    with pytest.raises(ValueError) as error:
        normalize(np.zeros(shape), PLAIN)
    assert "`images` must have 3 channels" in str(error.value)
    assert f"shape={shape}" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5,)}, r"`mean` and `std`.*mean=\(0.5,\)"),
        ({"std": (0.5, 0.5)}, r"`mean` and `std`.*std=\(0.5, 0.5\)"),
        ({"mean": (0.5, 0.5, float("nan"))}, "`mean`.*nan"),
        ({"mean": (0.5, 0.5, float("inf"))}, "`mean`.*inf"),
        ({"mean": (), "std": ()}, "`mean`"),
        ({"std": (0.5, 0.5, 0.0)}, "`std`.*0.0"),
        ({"std": (0.5, 0.5, -1.0)}, "`std`.*-1.0"),
        ({"std": (0.5, 0.5, float("nan"))}, "`std`.*nan"),
        ({"std": (0.5, 0.5, float("inf"))}, "`std`.*inf"),
        ({"interpolation": "cubic"}, "`interpolation`.*bicubic.*'cubic'"),
        ({"crop": 0}, "`crop`.*crop=0"),
        ({"crop": 1.01}, "`crop`.*crop=1.01"),
        ({"crop": -0.5}, "`crop`.*crop=-0.5"),
        ({"crop": float("nan")}, "`crop`.*crop=nan"),
    ],
)
def test_bad_value_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**options)


def test_lists_from_json_become_tuples():
    made = Preprocessing([0.5, 0.5, 0.5], [1, 1, 1])  # type: ignore[arg-type]
    assert made.mean == (0.5, 0.5, 0.5)
    assert made.std == (1.0, 1.0, 1.0)
    assert hash(made) == hash(Preprocessing(std=(1.0, 1.0, 1.0)))
