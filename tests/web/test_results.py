"""What the page computes and shows is what LiteRT computes in Python."""

import json

import numpy as np
import pytest
from PIL import Image

import export
from tests.export.dense_models import SIZE
from tests.export.web.files import NAMES, map_picture, picture
from vit_keras import Preprocessing, heads
from vit_keras import preprocessing as pp
from vit_keras.mask_pictures import class_colours

# WebAssembly's multiplications and additions are fused where the CPU's are not, and
# summed in another order: 1e-6 was seen on probabilities.
FLOATS = 1e-5
# Pixels of a map between two classes, whose scores differ by less than that.
EDGES = 2


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """PNG files of exactly the inputs' sizes, so that nobody resizes: {kind: path}."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, pixels in (("square", picture()), ("map", map_picture())):
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return {name: folder / f"{name}.png" for name in ("square", "map")}


@pytest.fixture(scope="module")
def opened(browser, url):
    browser.open(url)
    return browser


def shown(browser, name, file):
    """Choose a file of the page, and a picture."""
    if browser.evaluate("document.getElementById('title').textContent") != name:
        ready = "document.getElementById('status').textContent"
        browser.evaluate("document.getElementById('photo').width = 0")
        browser("select", selector="#models", value=name)
        title = "document.getElementById('title').textContent"
        enabled = "!document.getElementById('choose').disabled"
        browser.wait(f"{title} === '{name}' && {enabled} && {ready} !== 'Running…'")
    browser.choose(file)


def outputs_of(path, file):
    """{name: the interpreter's output} of the same pixels."""
    found = export.load(path).all(np.asarray(Image.open(file))[None])
    return {name: values[0] for name, values in found.items()}


def show_all(browser):
    """{name: probability} of every class, in the order of the page."""
    if browser.evaluate("document.querySelectorAll('.everything').length"):
        browser("click", selector=".everything")
    items = (
        "[...document.querySelectorAll('.bars li')].map(li => "
        "[li.querySelector('.name').textContent, Number(li.dataset.probability)])"
    )
    return dict(browser.evaluate(items))


def overlay(browser):
    """The pixels of the map that lies over the picture, (h, w, 4)."""
    code = (
        "(() => { const c = document.querySelector('#seen canvas'); "
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height); "
        "return [d.height, d.width, Array.from(d.data)]; })()"
    )
    height, width, values = browser.evaluate(code)
    return np.array(values, "uint8").reshape(height, width, 4)


@pytest.mark.parametrize("name", ["classes", "int8"])
def test_labels_and_probabilities(name, opened, files, pictures):
    """Those of int8 are equal as integers: its kernels are exact, whoever runs them."""
    shown(opened, name, pictures["square"])
    logits = outputs_of(files[name], pictures["square"])["logits"]
    expected = heads.probabilities(logits[None], "softmax")[0]
    found = show_all(opened)
    order = np.argsort(-expected, kind="stable")
    assert list(found) == [NAMES[index] for index in order]
    # The exponentials of JavaScript and of NumPy differ in the last digits.
    most = FLOATS if name == "classes" else 1e-12
    np.testing.assert_allclose(list(found.values()), expected[order], atol=most)
    first = "document.querySelector('.bars li').innerText"
    assert opened.evaluate(first).split("\n")[-1] == f"{100 * expected.max():.1f} %"


def test_other_heads(opened, files, pictures):
    square = pictures["square"]
    shown(opened, "binary", square)
    (logit,) = outputs_of(files["binary"], square).values()
    found = show_all(opened)
    yes = 1 / (1 + np.exp(-float(logit[0])))
    assert found == pytest.approx({"yes": yes, "no": 1 - yes}, abs=FLOATS)
    shown(opened, "labels", square)
    (logits,) = outputs_of(files["labels"], square).values()
    expected = dict(zip("xyz", 1 / (1 + np.exp(-logits)), strict=True))
    assert show_all(opened) == pytest.approx(expected, abs=FLOATS)
    shown(opened, "values", square)
    (values,) = outputs_of(files["values"], square).values()
    code = "[...document.querySelectorAll('dd[data-value]')].map(d => +d.dataset.value)"
    np.testing.assert_allclose(opened.evaluate(code), values, rtol=FLOATS, atol=FLOATS)


def test_outputs_of_unknown_meaning_are_numbers(opened, files, pictures):
    shown(opened, "inner", pictures["square"])
    expected = outputs_of(files["inner"], pictures["square"])
    code = (
        "Object.fromEntries([...document.querySelectorAll('[data-kind=numbers]')].map("
        "s => [s.dataset.output, {...s.querySelector('dl').dataset}]))"
    )
    found = opened.evaluate(code)
    assert set(found) == {"pooled", "features"}
    for name, facts in found.items():
        values = expected[name]
        read = [float(facts[key]) for key in ("low", "high", "mean")]
        wanted = [values.min(), values.max(), values.mean()]
        np.testing.assert_allclose(read, wanted, rtol=1e-4, atol=FLOATS)


def test_attention_lies_over_the_picture(opened, files, pictures):
    shown(opened, "classes", pictures["square"])
    values = outputs_of(files["classes"], pictures["square"])["attention"]
    share = (values - values.min()) / np.ptp(values)
    alpha = overlay(opened)[..., 3]
    assert alpha.shape == values.shape
    # Rounded from a share that is FLOATS away.
    np.testing.assert_allclose(alpha, 255 * (0.15 + 0.85 * share), atol=0.51)
    ramp = opened.evaluate("({...document.querySelector('.ramp').dataset})")
    assert float(ramp["high"]) == pytest.approx(values.max(), abs=FLOATS)


@pytest.mark.parametrize("name", ["scores", "small_scores", "classes_map"])
def test_masks_are_the_greatest_scores(name, opened, files, pictures):
    shown(opened, name, pictures["map"])
    (values,) = outputs_of(files[name], pictures["map"]).values()
    if name == "classes_map":
        classes = values.astype(int)
    else:  # smaller ones are enlarged before the argmax
        classes = pp.to_photograph(values, SIZE, Preprocessing()).argmax(-1)
    pixels = overlay(opened)
    assert pixels.shape == (*SIZE, 4) and (pixels[..., 3] == 255).all()
    colours = {tuple(colour): index for index, colour in enumerate(class_colours())}
    found = np.apply_along_axis(lambda p: colours[tuple(p[:3])], -1, pixels)
    assert (found != classes).sum() <= (EDGES if name != "classes_map" else 0)
    assert len(np.unique(classes)) > 1
    code = (
        "Object.fromEntries([...document.querySelectorAll('.classes li')].map("
        "li => [li.dataset.index, Number(li.dataset.share)]))"
    )
    shares = {int(index): share for index, share in opened.evaluate(code).items()}
    counts = np.bincount(found.ravel())
    assert shares == {k: n / found.size for k, n in enumerate(counts) if n}


def test_masks_of_more_classes_than_a_byte_has(opened):
    scores = [0.0] * 300
    scores[290] = 1.0
    code = (
        "import('./maps.js').then(({ classMap }) => classMap({ kind: 'scores', "
        f"shape: [1, 1, 1, 300] }}, {scores}, {{ width: 2, height: 1, "
        "box: [0, 0, 2, 1] }).facts.classes.map(({ index }) => index))"
    )
    assert opened.evaluate(code) == [290]


def test_depths_are_grey(opened, files, pictures):
    from vit_keras.mask_pictures import depth_picture

    shown(opened, "depth", pictures["map"])
    (values,) = outputs_of(files["depth"], pictures["map"]).values()
    expected = depth_picture(values[..., 0])[..., 0]
    found = overlay(opened)[..., 0]
    assert np.abs(found.astype(int) - expected).max() <= 1


RULES = [
    {"interpolation": name, "crop": crop, "resize": resize}
    for name in pp.INTERPOLATIONS
    for crop, resize in (
        (1.0, "cover"),
        (0.875, "cover"),
        (0.9, "stretch"),
        (1.0, "contain"),
    )
]


# Pictures, and how far from Pillow's their pixels are. Pillow 13 begins with the
# columns of tall ones, those before 13 always with the rows, as the page does: what is
# rounded, and clipped, between the two differs.
SIZES = {(61, 40): 0, (300, 211): 0, (40, 21): 0, (20, 97): 8}


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_as_pillow_does(size, opened, tmp_path):
    """To the last bit, larger and smaller, in RGB and grey."""
    pixels = picture(*size, seed=3)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    opened.choose(tmp_path / "picture.png")
    wanted = {"height": 37, "width": 52}
    for channels, mode in ((3, "RGB"), (1, "L")):
        source = np.asarray(Image.fromarray(pixels).convert(mode))
        source = source.reshape(*source.shape[:2], channels)
        for rules in RULES:
            mean = (0.4,) * channels
            preprocessing = Preprocessing(mean, mean, **rules)
            expected = pp.fit(source, (37, 52), preprocessing)
            given = {**rules, "padding": preprocessing.padding().tolist()}
            arguments = json.dumps({**wanted, "channels": channels}), json.dumps(given)
            code = (
                "import('./resize.js').then(({ fit }) => { const c = "
                "document.getElementById('photo'); const image = c.getContext('2d')"
                ".getImageData(0, 0, c.width, c.height); "
                f"return Array.from(fit(image, {arguments[0]}, {arguments[1]})); }})"
            )
            found = np.array(opened.evaluate(code)).reshape(expected.shape)
            apart = np.abs(found - expected.astype(int)).max()
            assert apart <= SIZES[size], f"{rules}, {mode}"


def test_no_errors_in_the_console(opened):
    assert [m for m in opened("messages") if not m.startswith("warning")] == []


def test_webgpu(with_webgpu, url, files, pictures):
    """The whole float file on a GPU, in software here, which sums in another order."""
    with_webgpu.open(url)
    with_webgpu.choose(pictures["square"])
    with_webgpu("click", selector="[value=webgpu]")
    place = "document.getElementById('place').textContent"
    with_webgpu.wait(f"{place} === 'GPU (WebGPU)' && document.querySelector('.bars')")
    logits = outputs_of(files["classes"], pictures["square"])["logits"]
    expected = heads.probabilities(logits[None], "softmax")[0]
    order = np.argsort(-expected, kind="stable")
    found = show_all(with_webgpu)
    assert list(found) == [NAMES[index] for index in order]
    # A GPU with half precision may use it, 2^-11; software has float32.
    np.testing.assert_allclose(list(found.values()), expected[order], atol=2e-3)
