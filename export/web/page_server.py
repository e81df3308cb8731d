"""A server of a page for this machine alone, with the headers that threads need."""

import functools
import http.server
import os
import pathlib

# Browsers share memory between threads of a page only if it is isolated from others.
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",  # a page that is written anew is seen at once
}
# Of the suffixes in a page; what the system's own table says differs.
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".tflite": "application/octet-stream",
    ".wasm": "application/wasm",
}


class PageHandler(http.server.SimpleHTTPRequestHandler):
    """Answers with the files of a folder."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, **TYPES}

    def end_headers(self):
        """Add our headers to every answer."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        """Print nothing for each request."""


def page_server(
    folder: str | os.PathLike[str], port: int = 0
) -> http.server.ThreadingHTTPServer:
    """Open a server of a page on 127.0.0.1; `serve_forever` starts it.

    Arguments:
        folder: what `web_page` wrote.
        port: 0 takes any that is free, in `server_port`.

    Raises:
        FileNotFoundError: there is no page in the folder.
        OSError: the port is taken.
    """
    if not pathlib.Path(folder, "index.html").is_file():
        raise FileNotFoundError(f"'{folder}' has no page: index.html is not there")
    handler = functools.partial(PageHandler, directory=os.fspath(folder))
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise OSError(f"`port` {port} cannot be opened: {error}") from error
