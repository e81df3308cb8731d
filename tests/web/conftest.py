"""A page with a file of each kind, a server of it, and a browser."""

import pathlib
import shutil
import subprocess
import threading

import pytest

import export
from export.web.page_server import page_server
from tests.export.web.files import write
from tests.web.browser import PACKAGES, Browser

HERE = pathlib.Path(__file__).parent
NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FILES = ("classes", "inner", "binary", "labels", "values", "scores", "small_scores")
FILES += ("classes_map", "depth")


def pytest_collection_modifyitems(items):
    """Every test here needs a browser."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("web")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """{name: path} of the files in the page."""
    from tests.export.conftest import digits

    folder = tmp_path_factory.mktemp("files")
    found = {name: write(name, folder) for name in FILES}
    options = {"scheme": "int8", "calibration": digits(16)}
    path = write("classes", tmp_path_factory.mktemp("int8"), **options)
    found["int8"] = path.rename(folder / "int8.tflite")
    return found


@pytest.fixture(scope="session")
def page(files, tmp_path_factory):
    """Folder of the page, with a copy of LiteRT.js."""
    out = tmp_path_factory.mktemp("web") / "page"
    return export.web_page(list(files.values()), out, vendor=PACKAGES)


@pytest.fixture(scope="session")
def serve():
    """A function of a folder: the address where it is served."""
    servers = []

    def started(folder, server=page_server):
        servers.append(server(folder))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield started
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def url(page, serve):
    return serve(page)


def started(**options):
    if CHROMIUM is None or not PACKAGES.is_dir():
        pytest.skip("Chromium or its driver is not installed: make test-web")
    return Browser(CHROMIUM, **options)


@pytest.fixture(scope="module")
def browser():
    browser = started()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def with_webgpu():
    browser = started(webgpu=True)
    yield browser
    browser.close()


@pytest.fixture(scope="session", autouse=True)
def node():
    """What drives the browser."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed: make test-web")
    subprocess.run(["node", "--version"], check=True, capture_output=True)
