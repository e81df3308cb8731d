"""`vit-export web`: a page that runs files in a browser."""

import contextlib
import pathlib
from typing import Annotated

import typer

from . import output
from .arguments import show_stages


def web_command(
    files: Annotated[
        list[pathlib.Path],
        typer.Argument(help="One or more .tflite files, exported with --target web."),
    ],
    out: Annotated[
        pathlib.Path, typer.Option(help="Folder to write: new, or an earlier page.")
    ],
    vendor: Annotated[
        str | None,
        typer.Option(
            help="Copy LiteRT.js into the folder: npm to download it, or a "
            "node_modules folder with @litertjs/core. Default: the page loads it from "
            "a CDN."
        ),
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Serve the page on this machine.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of --serve; 0: any free one.")
    ] = 8000,
):
    """Write a static page that runs files on pictures in a browser, by LiteRT.js."""
    from ..web.page_server import page_server
    from ..web.web_page import web_page

    with show_stages("writing the page"):
        web_page(files, out, vendor=vendor)
    print(f"wrote {out}: any web server of static files can serve it")
    if not serve:
        copied = () if vendor is None else ("--vendor", vendor)
        output.print_next(("web", *files, "--out", out, *copied, "--serve"))
        return
    with page_server(out, port) as server, contextlib.suppress(KeyboardInterrupt):
        print(
            f"http://127.0.0.1:{server.server_port}/ (stop it with Ctrl+C)", flush=True
        )
        server.serve_forever()
