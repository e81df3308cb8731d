"""A server of one file that misbehaves on demand."""

import http.server
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """One file, with the faults that the server's attributes ask for."""

    def do_GET(self):
        server = self.server
        server.seen.append(dict(self.headers))
        time.sleep(server.delay)
        if server.status != 200:
            self.send_error(server.status)
            return
        asked, start = self.headers.get("Range"), 0
        if asked and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            end = len(server.body)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("Content-Length", str(len(server.body) - start))
        for name, value in server.headers.items():
            self.send_header(name, value)
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        stop = server.cuts.pop(0) if server.cuts else len(server.body)
        try:
            for at in range(start, stop, 50_000):
                self.wfile.write(server.body[at : min(at + 50_000, stop)])
                time.sleep(server.pause)
        except ConnectionError:  # the client was killed
            pass

    def log_message(self, *_):
        pass


class FileServer(http.server.ThreadingHTTPServer):
    """A server on loopback.

    Attributes:
        body: bytes of the file, under any path.
        tag: its ETag, or none.
        headers: more of them.
        seen: headers of each request.
        cuts: where to hang up, by request.
        status: what is answered.
        ranges: whether a part can be asked for.
        delay, pause: seconds before the answer, and between its pieces.
    """

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.tag, self.headers = body, '"one"', {}
        self.seen, self.cuts = [], []
        self.status, self.ranges, self.delay, self.pause = 200, True, 0.0, 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file.npz"
