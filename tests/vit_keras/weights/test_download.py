"""Downloads from a server on this machine that misbehaves on demand."""

import base64
import dataclasses
import errno
import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("pooch")

from tests.vit_keras.weights.file_server import FileServer  # noqa: E402
from vit_keras.weights import download  # noqa: E402
from vit_keras.weights.download import DownloadError, fetch  # noqa: E402
from vit_keras.weights.published import PUBLISHED  # noqa: E402

BODY = random.Random(0).randbytes(1_000_000)
HALF = len(BODY) // 2
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture
def server():
    with FileServer(BODY) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("VIT_KERAS_CACHE", str(tmp_path))


def table(url, sha256=None):
    row = PUBLISHED["vit_ti16_augreg_224"]
    return {"tiny": dataclasses.replace(row, url=url, sha256=sha256)}


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("sha256", [None, SHA256[:8], SHA256])
def test_download_then_cache(server, tmp_path, capfd, sha256):
    rows = table(server.url, sha256)
    path = fetch("tiny", table=rows)
    assert path == tmp_path / "tiny.npz" and path.read_bytes() == BODY
    assert files(tmp_path) == ["tiny.npz", "tiny.npz.sha256"]
    said = capfd.readouterr()
    assert said.out == ""
    assert f"tiny: Apache-2.0, arXiv 2106.10270, {server.url}\n" in said.err
    assert "1.0/1.0 MB" in said.err  # the bar
    server.status = 500
    assert fetch("tiny", table=rows) == path
    assert len(server.seen) == 1
    assert capfd.readouterr().err == ""


def test_folder_is_the_argument_the_variable_or_the_users(
    server, tmp_path, monkeypatch
):
    rows = table(server.url)
    given = fetch("tiny", table=rows, cache=tmp_path / "a" / "b")
    assert given == tmp_path / "a" / "b" / "tiny.npz"
    monkeypatch.delenv("VIT_KERAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    if sys.platform == "linux":
        found = fetch("tiny", table=rows)
        assert found == tmp_path / "user" / "vit_keras" / "weights" / "tiny.npz"


def test_damaged_file_in_the_cache_is_replaced(server, tmp_path, capfd):
    (tmp_path / "tiny.npz").write_bytes(b"damaged")
    path = fetch("tiny", table=table(server.url, SHA256))
    assert path.read_bytes() == BODY
    assert "is not the published file" in capfd.readouterr().err


@pytest.mark.parametrize("published", [None, SHA256[:8]])
def test_hash_is_recorded_where_none_is_published(server, tmp_path, capfd, published):
    rows = table(server.url, published)
    path = fetch("tiny", table=rows)
    record = tmp_path / "tiny.npz.sha256"
    assert record.read_text() == f"{SHA256}  tiny.npz\n"
    path.write_bytes(BODY[:-1] + b"!")  # as long as it was
    assert fetch("tiny", table=rows).read_bytes() == BODY
    assert f"{path} is not the published file: again" in capfd.readouterr().err
    assert record.read_text() == f"{SHA256}  tiny.npz\n"


def test_file_has_its_name_only_once_its_hash_is_recorded(
    server, tmp_path, monkeypatch
):
    """Else a kill in between leaves a file that is never checked."""

    def full(*_):
        raise OSError(28, "No space left on device")

    rows = table(server.url)
    with monkeypatch.context() as changed:
        changed.setattr(download, "_record", full)
        with pytest.raises(DownloadError, match="No space left"):
            fetch("tiny", table=rows)
    assert not (tmp_path / "tiny.npz").exists()
    assert fetch("tiny", table=rows).read_bytes() == BODY
    assert files(tmp_path) == ["tiny.npz", "tiny.npz.sha256"]


def test_record_does_not_stand_against_the_published_hash(server, tmp_path):
    fetch("tiny", table=table(server.url))
    newer = random.Random(1).randbytes(1000)
    server.body = newer
    rows = table(server.url, hashlib.sha256(newer).hexdigest())
    assert fetch("tiny", table=rows).read_bytes() == newer


def test_file_put_there_by_hand_needs_no_record(server, tmp_path):
    (tmp_path / "tiny.npz").write_bytes(BODY)
    tmp_path.chmod(0o500)  # nothing is written, either
    try:
        assert fetch("tiny", table=table(server.url)).read_bytes() == BODY
    finally:
        tmp_path.chmod(0o700)
    assert server.seen == []


def test_cut_connection_is_resumed(server, tmp_path):
    server.cuts = [HALF, HALF + 200_000]
    path = fetch("tiny", table=table(server.url))
    assert path.read_bytes() == BODY
    ranges = [request.get("Range") for request in server.seen]
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(r.removeprefix("bytes=").removesuffix("-")) for r in ranges[1:]]
    assert 0 < starts[0] <= HALF < starts[1] <= HALF + 200_000
    assert {request.get("If-Range") for request in server.seen[1:]} == {'"one"'}
    assert files(tmp_path) == ["tiny.npz", "tiny.npz.sha256"]


def test_next_call_resumes_what_this_one_gave_up(server, tmp_path):
    server.cuts = [HALF // 2, HALF // 2, HALF]
    with pytest.raises(DownloadError, match="Connection"):
        fetch("tiny", table=table(server.url))
    assert files(tmp_path) == ["tiny.npz.part", "tiny.npz.part.tag"]
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY
    assert server.seen[-1].get("Range")


@pytest.mark.parametrize("tag", ['"one"', 'W/"weak"', None])
def test_server_without_ranges_or_tags(server, tag):
    server.cuts, server.ranges, server.tag = [HALF], False, tag
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY
    assert ("Range" in server.seen[1]) == (tag == '"one"')


def test_date_serves_where_there_is_no_tag(server):
    date = "Tue, 01 Jun 2021 00:00:00 GMT"
    server.cuts, server.tag = [HALF], None
    server.headers = {"Last-Modified": date}
    fetch("tiny", table=table(server.url))
    assert server.seen[1]["If-Range"] == date


def test_changed_file_is_not_glued_together(server):
    server.cuts = [HALF] * 3
    with pytest.raises(DownloadError):
        fetch("tiny", table=table(server.url))
    server.body, server.tag = BODY[::-1], '"two"'
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY[::-1]
    assert server.seen[-1]["If-Range"] == '"one"'


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_part_that_is_too_long_starts_over(server, tmp_path, extra):
    (tmp_path / "tiny.npz.part").write_bytes(BODY + extra)
    (tmp_path / "tiny.npz.part.tag").write_text('"one"')
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("sha256", "md5"),
    [("0" * 64, MD5), ("0" * 8, MD5), (None, base64.b64encode(bytes(16)).decode())],
)
def test_wrong_content_is_removed(server, tmp_path, sha256, md5):
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5}"}
    with pytest.raises(DownloadError) as caught:
        fetch("tiny", table=table(server.url, sha256))
    message = str(caught.value)
    assert f"expected {sha256 or 'md5:' + '0' * 32}" in message
    received = SHA256 if sha256 else hashlib.md5(BODY).hexdigest()
    assert f"received {received}" in message and server.url in message
    assert files(tmp_path) == []


def test_right_md5_is_accepted(server):
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={MD5}"}
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY


@pytest.mark.parametrize(("status", "tries"), [(404, 1), (403, 1), (500, 3), (503, 3)])
def test_refusal_says_what_to_do(server, tmp_path, status, tries):
    server.status = status
    with pytest.raises(DownloadError) as caught:
        fetch("tiny", table=table(server.url))
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(status), server.url, str(tmp_path / "tiny.npz"), "weights="):
        assert part in message
    assert "VIT_KERAS_CACHE" in message
    assert len(server.seen) == tries
    assert files(tmp_path) == []


def test_no_server(tmp_path):
    with FileServer(BODY) as server:
        url = server.url
    with pytest.raises(DownloadError, match="ConnectionError.*by hand"):
        fetch("tiny", table=table(url))
    assert files(tmp_path) == []


def test_unknown_host(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", (0.5, 0.5))
    with pytest.raises(DownloadError, match="by hand"):
        fetch("tiny", table=table("http://host.invalid/file.npz"))


def test_silent_server(server, monkeypatch):
    server.delay = 0.5
    monkeypatch.setattr(download, "TIMEOUT", (1.0, 0.05))
    with pytest.raises(DownloadError, match="Timeout"):
        fetch("tiny", table=table(server.url))


def test_cache_below_a_file(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="VIT_KERAS_CACHE") as caught:
        fetch("tiny", table=table(server.url), cache=tmp_path / "file" / "cache")
    assert str(tmp_path / "file" / "cache") in str(caught.value)
    assert not server.seen


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_read_only_cache(server, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DownloadError, match="Permission denied.*VIT_KERAS_CACHE"):
        fetch("tiny", table=table(server.url))
    tmp_path.chmod(0o700)


def test_full_disk(server, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download._Downloader, "_begin", full)
    with pytest.raises(DownloadError, match="No space left.*VIT_KERAS_CACHE") as caught:
        fetch("tiny", table=table(server.url))
    assert str(tmp_path) in str(caught.value)
    assert files(tmp_path) == []


def test_unknown_name_lists_close_ones():
    with pytest.raises(ValueError, match="vit_b16_augreg_224.*name='vit_b16_augrag'"):
        fetch("vit_b16_augrag")
    with pytest.raises(ValueError, match="such as vit_.*name=3"):
        fetch(3)  # type: ignore


@pytest.mark.parametrize("package", ["pooch", "requests"])
def test_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}.*vit-keras-edge\[download\]"):
        fetch("vit_b16_in21k")


def start_process(url):
    """`fetch` in a process of its own, without the rest of the package. A shell starts
    background jobs, and these tests perhaps, with SIGINT ignored."""
    code = f"""
import dataclasses, signal, sys, types
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("vit_keras", "vit_keras.weights"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [{str(ROOT)!r} + "/" + name.replace(".", "/")]
from vit_keras.weights.download import fetch
from vit_keras.weights.published import PUBLISHED
row = dataclasses.replace(PUBLISHED["vit_ti16_augreg_224"], url={url!r})
print(fetch("tiny", table={{"tiny": row}}))
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_killed_process_is_resumed(server, tmp_path, how):
    part = tmp_path / "tiny.npz.part"
    server.pause = 0.1
    process = start_process(server.url)
    wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
    process.send_signal(how)
    process.communicate(timeout=10)
    assert process.returncode != 0
    assert not (tmp_path / "tiny.npz").exists()
    server.pause = 0.0
    assert fetch("tiny", table=table(server.url)).read_bytes() == BODY
    assert len(server.seen) == 2 and server.seen[1].get("Range")


def test_two_processes_download_once(server, tmp_path):
    server.pause = 0.05
    processes = [start_process(server.url) for _ in range(2)]
    said = [process.communicate(timeout=20) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [out.strip() for out, _ in said] == [str(tmp_path / "tiny.npz")] * 2
    assert (tmp_path / "tiny.npz").read_bytes() == BODY
    assert len(server.seen) == 1
    assert files(tmp_path) == ["tiny.npz", "tiny.npz.sha256"]
