"""`vit-keras train`, `evaluate` and `predict` for outputs at each pixel; pictures."""

import numpy as np
import pytest
from PIL import Image

from tests.models import eagerly
from tests.vit_keras.training.runs import quiet
from tests.vit_keras.training.shapes import NAMES, SHORT, shapes
from tests.vit_keras.weights.golden_files import GOLDEN
from vit_keras import from_checkpoint, train, visualize
from vit_keras.cli import app
from vit_keras.cli.options import check_task, read_size, read_taps
from vit_keras.data import Dataset, Splits
from vit_keras.mask_pictures import class_colours, depth_picture, palette_image
from vit_keras.model_file import open_trained
from vit_keras.training.start import open_start

IMAGE = np.full((100, 250, 3), 200, "uint8")
MASK = np.zeros((100, 250), "uint8")
MASK[:50, :100] = 1
MASK[50:, :100] = 255


def call(capsys, *words):
    app(args=[str(word) for word in words], standalone_mode=False)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("dense") / "run"
    with eagerly():
        train(shapes(16), SHORT.replace(epochs=1), out=out, console=quiet())
    return out


def test_predict_writes_masks_and_pictures(run, tmp_path, capsys):
    files = []
    for size in (60, 90):
        files.append(tmp_path / f"photo{size}.png")
        Image.fromarray(shapes(1, 5, size).images[0][:, : size - 10]).save(files[-1])
    out = tmp_path / "out"
    said = call(capsys, "predict", run, *files, "--out", out)
    for file, size in zip(files, (60, 90), strict=True):
        with Image.open(out / f"{file.stem}.mask.png") as mask:
            assert mask.mode == "P" and mask.size == (size - 10, size)
            numbers = np.asarray(mask)
        with Image.open(out / f"{file.stem}.overlay.png") as picture:
            assert picture.width >= 240
        line = next(text for text in said.splitlines() if text.startswith(str(file)))
        for k in np.unique(numbers):
            assert f"{NAMES[k]} {(numbers == k).mean():.1%}" in line
    with pytest.raises(ValueError, match="`--out` must be a folder for a model"):
        call(capsys, "predict", run, files[0])
    with pytest.raises(ValueError, match="different names for their pictures"):
        call(capsys, "predict", run, files[0], files[0], "--out", out)
    with pytest.raises(OSError, match="`out` must be a folder that can be written"):
        call(capsys, "predict", run, files[0], "--out", files[0])


def test_evaluate_prints_a_table_of_classes(run, tmp_path, capsys, monkeypatch):
    data = shapes(6, 1)
    monkeypatch.setattr(
        "vit_keras.training.opening.open_splits",
        lambda *_, **__: Splits(test=data),
    )
    words = ("evaluate", run, "--data", "ignored", "--out", tmp_path / "worst")
    said = call(capsys, *words)
    assert "IoU" in said and "circle" in said
    assert "mean iou 0." in said and "on 6 images" in said
    assert len(list((tmp_path / "worst").iterdir())) == 6
    monkeypatch.setattr(
        "vit_keras.training.opening.open_splits",
        lambda *_, **__: Splits(train=data, unlabelled=("test",)),
    )
    with pytest.raises(ValueError, match=r"labels in train \(6\): `part` \(--part\)"):
        call(capsys, *words)
    assert "on 6 images" in call(capsys, *words, "--part", "train")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="`out` must be a folder that can be written"):
        call(capsys, *words[:-1], tmp_path / "file")


@pytest.mark.usefixtures("eager")
def test_train_takes_task_decoder_taps_and_size(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "vit_keras.training.opening.open_splits",
        lambda *_, **__: Splits(train=shapes(8)),
    )
    out, sizes = tmp_path / "run", ("num_layers=2", "hidden_size=16", "num_heads=2")
    more = [part for size in sizes for part in ("--set", f"model.{size}")]
    said = call(
        *(capsys, "train", "--data", "ignored", "--out", out, "--task", "segment"),
        *("--preset", "vit_ti16", "--image-size", "32x48", "--decoder", "upconv"),
        *("--taps", "0,1", "--epochs", "1", "--batch-size", "4", *more),
        *("--set", "model.mlp_dim=16", "--set", "precision=float32"),
    )
    assert f"wrote {out / 'model.keras'}" in said
    config = open_trained(out)[0].config
    assert config.image_size == (32, 48) and config.decoder == "upconv"
    assert config.taps == (0, 1) and config.head == "segmentation"


@pytest.mark.parametrize(
    ("text", "size"), [("224", 224), ("252x336", [252, 336]), ("8X16", [8, 16])]
)
def test_sizes(text, size):
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "224px", "1x2x3", "0", "-4", "3x", "1.5"])
def test_sizes_that_are_none(text):
    with pytest.raises(ValueError, match="`--image-size` must be pixels such as"):
        read_size(text)


def test_options_that_are_none():
    assert read_taps("4") == 4 and read_taps("2,5, 8") == [2, 5, 8]
    with pytest.raises(ValueError, match="`--taps` must be"):
        read_taps("all")
    with pytest.raises(ValueError, match="`--task` must be one of classify, segment"):
        check_task("detect")


def test_overlay():
    picture = visualize.overlay_mask(IMAGE, MASK, ("a", "b"))
    large = picture[: 3 * 100].reshape(100, 3, 250 * 3, 3)[:, 0].reshape(100, 250, 3, 3)
    pixels = large[:, :, 0]
    assert (pixels[50:, :100] == 200).all()  # ignored
    red = class_colours()[1]
    assert red.tolist() == [128, 0, 0]
    assert np.abs(pixels[0, 0].astype(int) - (200.0 + red) / 2).max() <= 0.5
    assert picture.shape[0] > 300 and picture.shape[1] == 750
    plain = visualize.overlay_mask(IMAGE, MASK, opacity=0)
    assert plain.shape == (300, 750, 3) and (plain == 200).all()
    grey = visualize.overlay_mask(IMAGE[..., :1], MASK, ("a", "b"))
    assert np.array_equal(grey, picture)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": IMAGE / 255}, "`image` must be uint8"),
        ({"mask": MASK[:50]}, "`mask` must be integers of shape .100, 250."),
        ({"mask": MASK / 1.0}, "`mask` must be integers"),
        ({"names": ("a",)}, "`mask` must hold classes below 1, or 255"),
        ({"opacity": 2}, "`opacity` must be in"),
    ],
)
def test_overlays_that_are_none(change, words):
    arguments = {"image": IMAGE, "mask": MASK, "names": ("a", "b"), **change}
    with pytest.raises(ValueError, match=words):
        visualize.overlay_mask(**arguments)


def test_colours_are_those_of_pascal_voc():
    expected = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    for number, colour in expected.items():
        assert tuple(class_colours()[number]) == colour
    image = palette_image(MASK, np.array([[1, 2, 3]]))
    assert np.array_equal(np.asarray(image), MASK)
    rgb = np.asarray(image.convert("RGB"))
    assert tuple(rgb[0, 200]) == (1, 2, 3) and tuple(rgb[60, 0]) == (255, 255, 255)


def test_near_is_bright():
    picture = depth_picture(np.array([[1.0, 2.0, 4.0, np.nan]]))
    # 1 / depth, from the farthest 0.25 to the nearest 1.
    assert picture[0, :, 0].tolist() == [255, 85, 0, 0]
    picture = depth_picture(np.array([[0.0, -1.0, 2.0, np.nan]]), "inverse")
    assert picture[0, :, 0].tolist() == [85, 0, 255, 0]
    assert (depth_picture(np.full((2, 2), np.nan)) == 0).all()


@pytest.mark.usefixtures("eager")
def test_depth_maps_are_written(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), "uint8")
    depth = np.full((8, 48, 48), 3.0, "float32")
    data = Dataset(images, depth, ("depth",), "depth")
    train(data, SHORT.replace(epochs=1), out=tmp_path / "run", console=quiet())
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    out = tmp_path / "out"
    said = call(capsys, "predict", tmp_path / "run", tmp_path / "a.png", "--out", out)
    assert "a.png: depth " in said
    with Image.open(out / "a.depth.tiff") as stored:
        values = np.asarray(stored)
    # It begins at the mean of the logarithms, and three steps do not leave it.
    assert values.dtype == "float32" and np.abs(values - 3).max() < 1
    assert (out / "a.depth.png").is_file()


def test_inverse_depth_is_said_everywhere(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
    model = from_checkpoint(GOLDEN / "hf-dpt-depth")
    model.save(tmp_path / "model.keras")
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    words = ("predict", tmp_path / "model.keras", tmp_path / "a.png")
    said = call(capsys, *words, "--out", tmp_path / "out")
    assert "a.png: inverse depth " in said and "without scale and shift" in said
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.inverse_depth.tiff", "a.inverse_depth.png"}

    inputs = model.config.preprocessing.scale_and_offset()
    raw = model.predict_on_batch(images * inputs[0] + inputs[1])[..., 0]
    depth = (1 / (0.1 + 3 * np.asarray(raw))).astype("float32")
    np.savez(tmp_path / "d.npz", images=images, depth=depth)
    words = ("evaluate", tmp_path / "model.keras", "--data", tmp_path / "d.npz")
    said = call(capsys, *words)
    assert "inverse depth: scale and shift of each image by least squares" in said
    # float32 outputs of the network, equal to those that made the truth.
    assert "absolute relative error 0.0000" in said and "delta 1 1.0000" in said


@pytest.mark.usefixtures("eager")
def test_inverse_depth_is_not_trained_on_distances(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), "uint8")
    depth = np.full((8, 32, 32), 3.0, "float32")
    data = Dataset(images, depth, ("depth",), "depth")
    weights = GOLDEN / "hf-dpt-depth"
    recipe = SHORT.replace(epochs=1, model={}, preset=None)
    with pytest.raises(ValueError, match="inverse depths .*--set model.depth_type=met"):
        train(data, recipe, out=tmp_path / "a", weights=weights, console=quiet())
    wrong = recipe.replace(model={"depth_type": "inverse"})
    with pytest.raises(ValueError, match="another depth_type than 'metric'"):
        train(data, wrong, out=tmp_path / "a", weights=weights, console=quiet())
    stated = recipe.replace(model={"depth_type": "metric"})
    start = open_start(stated.replace(weights=str(weights)), ("depth",), "depth")
    assert not start.head and "its depth_type is inverse, not metric" in start.said
    assert start.config.depth_type == "metric" and start.config.decoder == "dpt"
