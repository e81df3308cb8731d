"""`utils` and `visualize` do what those of vit-keras 0.2 do."""

import http.server
import inspect
import io
import threading

import numpy as np
import pytest
from PIL import Image

from tests.models import TINY, randomise, tiny, weights_of
from vit_keras import (
    attention_map,
    create_model,
    save_checkpoint,
    utils,
    visualize,
    vit,
)
from vit_keras.weights import download

EMPTY = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (utils.get_imagenet_classes, []),
        (
            utils.read,
            [("filepath_or_buffer", EMPTY), ("size", EMPTY), ("timeout", None)],
        ),
        (
            utils.load_weights_numpy,
            [
                *(("model", EMPTY), ("params_path", EMPTY), ("pretrained_top", EMPTY)),
                *(("num_x_patches", EMPTY), ("num_y_patches", EMPTY)),
            ],
        ),
        (visualize.attention_map, [("model", EMPTY), ("image", EMPTY)]),
    ],
)
def test_signatures(function, expected):
    parameters = inspect.signature(function).parameters.values()
    assert [(p.name, p.default) for p in parameters] == expected


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Files of three classes in the cache, whose order is not that of their names."""
    (tmp_path / "imagenet_synsets.txt").write_text("n2\nn3\nn1\n")
    (tmp_path / "imagenet_synset_to_lemma.txt").write_text(
        "n1\ttench, Tinca tinca\nn2\tGranny Smith\nn3\tEskimo dog, husky\nn4\tother\n"
    )
    monkeypatch.setenv("VIT_KERAS_CACHE", str(tmp_path))
    return tmp_path


def test_classes_are_in_the_order_of_the_outputs(names, monkeypatch):
    rows = {name: row._replace(sha256="") for name, row in utils.CLASS_FILES.items()}
    monkeypatch.setattr(utils, "CLASS_FILES", rows)
    expected = ["Granny Smith", "Eskimo dog, husky", "tench, Tinca tinca"]
    assert utils.get_imagenet_classes() == expected


def test_classes_are_those_of_the_published_files(names, monkeypatch):
    """Other content is not taken, and without network the message says what to do."""
    rows = {
        name: row._replace(url="http://127.0.0.1:9/imagenet.txt")
        for name, row in utils.CLASS_FILES.items()
    }
    monkeypatch.setattr(utils, "CLASS_FILES", rows)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    with pytest.raises(download.DownloadError) as error:
        utils.get_imagenet_classes()
    for part in ("imagenet_synsets", "by hand", str(names), "VIT_KERAS_CACHE"):
        assert part in str(error.value)
    assert "weights=" not in str(error.value)


def test_class_files_are_pinned():
    for row in utils.CLASS_FILES.values():
        commit = row.url.split("/")[5]
        assert len(commit) == 40 and len(row.sha256) == 64


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype("uint8")
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def test_read(photo):
    """Of all sources the same pixels, and all of the image."""
    image = Image.open(photo)
    expected = np.asarray(image.resize((16, 16), Image.Resampling.BILINEAR))
    for source in (str(photo), photo, io.BytesIO(photo.read_bytes()), image):
        found = utils.read(source, 16)
        assert found.dtype == "uint8"
        np.testing.assert_array_equal(found, expected)
    assert utils.read(image.convert("L"), (20, 30)).shape == (20, 30, 3)
    np.testing.assert_array_equal(utils.read(photo, (20, 30)), np.asarray(image))


def test_read_from_a_url(photo):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == "/photo.png"
            found = found and "Python" not in self.headers["User-Agent"]
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(photo.read_bytes())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        found = utils.read(f"{url}/photo.png", (20, 30), timeout=10)
        with pytest.raises(OSError, match="404"):
            utils.read(f"{url}/other.png", 16)
        server.shutdown()
        thread.join()
    np.testing.assert_array_equal(found, np.asarray(Image.open(photo)))


def test_read_refuses(photo, tmp_path):
    with pytest.raises(FileNotFoundError, match="no.png"):
        utils.read(str(tmp_path / "no.png"), 16)
    with pytest.raises(ValueError, match="cannot read"):
        utils.read(io.BytesIO(b"text"), 16)
    with pytest.raises(ValueError, match="`size`.*size=0"):
        utils.read(photo, 0)


@pytest.mark.parametrize("top", [True, False])
def test_load_weights_numpy(tmp_path, top):
    stored = randomise(create_model(TINY, mlp_activation="gelu_tanh"))
    path = save_checkpoint(stored, tmp_path / "x.npz", "augreg")
    model = create_model(tiny(image_size=(16, 24)))
    with pytest.raises(ValueError, match=r"`num_y_patches`.*\(2, 3\).*\(3, 2\)"):
        utils.load_weights_numpy(model, path, top, 2, 3)
    utils.load_weights_numpy(model, path, top, 3, 2)
    expected, found = weights_of(stored), weights_of(model)
    for name, same in (("encoderblock_1/norm1/beta", True), ("head/kernel", top)):
        assert np.array_equal(found[name], expected[name]) == same
    assert found["posembed_input/embedding"].shape == (1, 7, 16)


def test_attention_map_darkens_the_rest():
    """On a white image of another size it is the map itself, the largest value 255."""
    model = randomise(create_model(tiny(image_size=(16, 24))))
    white = np.full((60, 45, 3), 255, "uint8")
    found = visualize.attention_map(model=model, image=white)
    assert found.dtype == "uint8" and found.shape == (60, 45, 3)
    images = vit.preprocess_inputs(np.full((1, 16, 24, 3), 255))
    patches = attention_map(model, images, per_patch=True)[0]
    expected = 255 * patches / patches.max()
    # Centres of the 2 x 3 patches; fractions are cut off.
    centres = found[15::30, 7::15, 0]
    np.testing.assert_allclose(centres, expected, atol=1.5)
    assert (found == found[..., :1]).all()


def test_attention_map_refuses():
    model = create_model(TINY)
    for image in (np.zeros((16, 16, 3)), np.zeros((1, 16, 16, 3), "uint8")):
        with pytest.raises(ValueError, match=r"`image` must be uint8.*\(H, W, 3\)"):
            visualize.attention_map(model, image)


def test_the_first_lines_of_its_readme(names, photo, monkeypatch):
    """Unchanged but for the size of the model and its weights."""
    rows = {name: row._replace(sha256="") for name, row in utils.CLASS_FILES.items()}
    monkeypatch.setattr(utils, "CLASS_FILES", rows)
    image_size = 16
    classes = utils.get_imagenet_classes()
    model = create_model(tiny(classes=3, activation="sigmoid"))
    image = utils.read(str(photo), image_size)
    X = vit.preprocess_inputs(image).reshape(1, image_size, image_size, 3)
    y = model.predict(X, verbose=0)
    assert classes[y[0].argmax()] in classes
    assert visualize.attention_map(model=model, image=image).shape == image.shape
