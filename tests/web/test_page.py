"""The page in the hands of a user: keyboard, phone, mistakes, servers, camera."""

import functools
import http.server
import json
import pathlib
import shutil

import pytest
from PIL import Image

import export
from export.web.runtime import CDN, packages
from tests.export.web.files import map_picture, picture
from tests.web.browser import PACKAGES
from tests.web.conftest import FILES


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(picture(160, 120)).save(path)
    return path


def text(browser, name):
    return browser.evaluate(f"document.getElementById('{name}').textContent")


def focused(browser):
    return browser.evaluate("document.activeElement.id")


def tab_to(browser, name):
    """Press Tab until an element has the focus."""
    for _ in range(12):
        browser("press", key="Tab")
        if focused(browser) == name:
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_the_file_is_described(browser, url):
    browser.open(url)
    assert text(browser, "title") == "classes"
    facts = text(browser, "facts")
    for word in ("CC0-1.0", "float32", "SQNR", "32 × 32 pixels, RGB", "keras"):
        assert word in facts
    assert "arithmetic of Pillow" in text(browser, "preparation")
    options = browser.evaluate(
        "[...document.querySelectorAll('#models option')].length"
    )
    assert options == len(FILES) + 1


def test_everything_by_keyboard(browser, url, photo):
    browser.open(url)
    tab_to(browser, "choose")
    browser("pressAndChoose", key="Enter", file=str(photo))
    browser.wait_for_result()
    for name in ("camera", "layer", "opacity"):
        tab_to(browser, name)
    before = browser.evaluate("document.querySelectorAll('.bars li').length")
    browser("press", key="Tab")
    browser("press", key="Enter")  # "Show all"
    after = browser.evaluate("document.querySelectorAll('.bars li').length")
    assert (before, after) == (5, 10)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) == "solid"


def test_nothing_is_wider_than_a_phone(browser, url, photo, tmp_path):
    browser.open(url, width=360, height=740)
    Image.fromarray(map_picture()).save(tmp_path / "map.png")
    for name in FILES:
        browser("select", selector="#models", value=name)
        browser.wait(f"document.getElementById('title').textContent === '{name}'")
        browser.choose(photo)
        wide = browser.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, name


CONTRAST = pathlib.Path(__file__).with_name("contrast.js")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(scheme, browser, url, photo):
    """WCAG 2.2 asks for a contrast of 4.5."""
    browser.open(url, scheme=scheme)
    browser.choose(photo)
    found = browser.evaluate(CONTRAST.read_text())
    assert len(found) > 20
    assert [name for ratio, name in found if ratio < 4.5] == []
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(245, 246, 247)", "dark": "rgb(17, 21, 23)"}[scheme]


def test_a_picture_can_be_dropped(browser, url):
    browser.open(url)
    drop = (
        "new Promise(done => { const c = document.createElement('canvas'); "
        "c.toBlob(blob => { const data = new DataTransfer(); "
        "data.items.add(new File([blob], 'dropped.png', { type: 'image/png' })); "
        "document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, "
        "bubbles: true, cancelable: true })); done(); }); })"
    )
    browser.evaluate(drop)
    browser.wait_for_result()
    name = "document.getElementById('photo').getAttribute('aria-label')"
    assert browser.evaluate(name) == "dropped.png"


def test_what_is_no_picture_is_refused(browser, url, photo, tmp_path):
    browser.open(url)
    (tmp_path / "notes.png").write_text("no picture")
    browser("choose", file=str(tmp_path / "notes.png"))
    browser("wait", code="document.querySelector('#status.error')", seconds=20)
    assert "notes.png is no picture" in text(browser, "status")
    browser("choose", file=str(photo))
    browser("wait", code="document.querySelector('.bars')", seconds=20)
    assert not browser.evaluate("document.querySelector('#status.error')")


def test_a_strip_of_a_pixel_is_a_picture(browser, url, tmp_path):
    """It is shortened, but never to nothing."""
    browser.open(url)
    Image.fromarray(picture(10_000, 8)[:1]).save(tmp_path / "strip.png")
    browser.choose(tmp_path / "strip.png")
    assert browser.evaluate("document.getElementById('photo').height") == 1


def test_names_that_mean_something_in_a_url(browser, files, serve, photo, tmp_path):
    odd = shutil.copy(files["classes"], tmp_path / "50% ü#1?.tflite")
    browser.open(serve(export.web_page(odd, tmp_path / "page", vendor=PACKAGES)))
    browser.choose(photo)
    assert text(browser, "title") == "50% ü#1?"


def test_the_camera_runs_until_it_is_stopped(browser, url):
    browser.open(url)
    browser("click", selector="#camera")
    browser.wait("/median of [3-9]/.test(document.getElementById('time').textContent)")
    assert text(browser, "camera") == "Stop the camera"
    browser("click", selector="#camera")
    assert text(browser, "camera") == "Use the camera"
    assert not browser.evaluate("document.querySelector('#status.error')")


def test_a_changed_file_is_not_run(browser, page, serve, tmp_path):
    shutil.copytree(page, tmp_path / "page")
    (tmp_path / "page" / "models" / "classes.tflite").write_bytes(b"another")
    browser("open", url=serve(tmp_path / "page"), width=800, height=600, scheme="light")
    browser("wait", code="document.querySelector('#status.error')", seconds=20)
    assert "is not the file that this page is for" in text(browser, "status")


def test_a_server_without_the_headers_gives_one_thread(browser, page, serve, photo):
    """Any server of static files serves the page, Python's own for one."""
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=str(page)
    )
    plain = functools.partial(http.server.ThreadingHTTPServer, ("127.0.0.1", 0))
    browser.open(serve(page, lambda _: plain(handler)))
    browser.choose(photo)
    assert text(browser, "place") == "CPU (WebAssembly, one thread)"


def test_a_page_opened_as_a_file_says_what_it_needs(browser, page):
    uri = (page / "index.html").as_uri()
    browser("open", url=uri, width=800, height=600, scheme="light")
    assert "from a web server" in text(browser, "status")


def test_a_page_of_the_cdn(browser, files, serve, photo, tmp_path):
    """Its addresses, answered with the files of npm, which a CDN serves as they are."""
    out = export.web_page(files["classes"], tmp_path / "page")
    known = {
        f"{CDN}/{name}@{package['version']}/{file}": str(PACKAGES / name / file)
        for name, package in packages().items()
        for file in package["files"]
    }
    browser("route", files=known)
    try:
        browser.open(serve(out))
        browser.choose(photo)
        assert "threads" in text(browser, "place")
        changed = tmp_path / "changed.js"
        changed.write_text("export const loadLiteRt = 1;")
        (module,) = [url for url in known if "core@" in url and "dist" in url]
        browser("route", files={**known, module: str(changed)})
        address = json.dumps(serve(out))
        browser.evaluate(f"location.replace({address})")
        browser("wait", code="document.querySelector('#status.error')", seconds=20)
        assert "LiteRT.js cannot be loaded" in text(browser, "status")
    finally:
        browser("route", files={})
