"""A file that all tests of pages put into them."""

import pytest

from tests.export.web.files import write


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    return write("classes", tmp_path_factory.mktemp("files"))
