"""The server of a page, and `vit-export web`."""

import shlex
import threading
import urllib.error
import urllib.request

import pytest

from export.web.page_server import page_server
from tests import program


def test_the_command_writes_a_page(file, tmp_path):
    done = program.run("vit-export", "web", file, "--out", tmp_path / "page")
    assert done.returncode == 0, done.stderr
    assert (
        f"next: vit-export web {file} --out {tmp_path / 'page'} --serve" in done.stdout
    )
    assert (tmp_path / "page" / "index.html").is_file()


def test_the_next_command_writes_the_same_page(file, tmp_path, monkeypatch):
    """With the copy of LiteRT.js, and quoted for a shell."""
    monkeypatch.setattr("export.web.web_page.copy_runtime", lambda *_: None)
    out = tmp_path / "my page"
    done = program.run("vit-export", "web", file, "--out", out, "--vendor", "npm")
    words = ["vit-export", "web", str(file), "--out", str(out), "--vendor", "npm"]
    (line,) = [row for row in done.stdout.splitlines() if row.startswith("next: ")]
    assert shlex.split(line)[1:] == [*words, "--serve"]


def test_the_command_refuses_with_one_line(tflite_of, tmp_path):
    path, _ = tflite_of()
    done = program.run("vit-export", "web", path, "--out", tmp_path / "page")
    program.refused(done, "vit-export", "`files`", "uint8", "--target web")
    assert not (tmp_path / "page").exists()


def test_the_command_serves(file, tmp_path, monkeypatch):
    """With the headers that threads need, and the types that browsers insist on."""
    opened = {}

    def serve(server):
        thread = threading.Thread(target=type(server).serve_forever, args=(server,))
        thread.start()
        for name in ("", "app.js", "style.css", "page.json", "models/classes.tflite"):
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            with urllib.request.urlopen(url) as answer:
                opened[name] = dict(answer.headers), answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/no")
        server.shutdown()
        thread.join()
        raise KeyboardInterrupt  # as the user ends it

    def opened_server(*arguments):
        server = page_server(*arguments)
        monkeypatch.setattr(server, "serve_forever", lambda: serve(server))
        return server

    monkeypatch.setattr("export.web.page_server.page_server", opened_server)
    options = ("--serve", "--port", 0)
    done = program.run("vit-export", "web", file, "--out", tmp_path / "page", *options)
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:" in done.stdout
    for headers, _ in opened.values():
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    types = {name: headers["Content-type"] for name, (headers, _) in opened.items()}
    assert types == {
        "": "text/html",
        "app.js": "text/javascript",
        "style.css": "text/css",
        "page.json": "application/json",
        "models/classes.tflite": "application/octet-stream",
    }
    assert opened["models/classes.tflite"][1] == file.read_bytes()


def test_no_page_and_no_port(tmp_path):
    with pytest.raises(FileNotFoundError, match="index.html is not there"):
        page_server(tmp_path)
    (tmp_path / "index.html").write_text("")
    with page_server(tmp_path) as server:
        with pytest.raises(OSError, match="`port` .* cannot be opened"):
            page_server(tmp_path, server.server_port)
