"""The attacks on readers of images, masks and tables."""

import pickle
from collections.abc import Iterator

from . import attacks as at
from . import seed_files as seeds
from .attacks import Attack
from .readers import READERS


def data_attacks() -> Iterator[Attack]:
    image, mask = "image", "mask .png"
    for name, content in (
        ("a PNG that promises 10^18 pixels", at.png_of(10**9, 10**9)),
        ("a PNG that promises 177 million pixels", at.png_of(13_300, 13_300)),
        (
            "a WebP of 169 million pixels",
            lambda o: at.picture("WEBP", 13_000, lossless=True),
        ),
        ("a GIF of 169 million pixels", lambda o: at.picture("GIF", 13_000, "P")),
        (
            "a TIFF of 169 million pixels",
            lambda o: at.picture("TIFF", 13_000, compression="tiff_deflate"),
        ),
        ("a JPEG of 169 million pixels", lambda o: at.picture("JPEG", 13_000)),
        ("a PNG of 169 million pixels", at.png_zeros),
        ("a program of PostScript", at.postscript),
    ):
        yield Attack(name, image, at.file("a", content))
        if "PNG" in name:
            make = at.beside(READERS[mask].files[0], "masks/a.png", content)
            yield Attack(name, mask, make, False)
    yield Attack("a link to a file outside", image, at.symlink("a", "secret"))
    for reader, file, member in (
        ("images and labels .npz", "a.npz", "images.npy"),
        ("images and masks .npz", "a.npz", "images.npy"),
        ("images of an .npz", "a.npz", "images.npy"),
        ("depth .npz", "depth/a.npz", "depth.npy"),
    ):
        files = READERS[reader].files[0]

        def npz_bomb(folder, outside, files=files, file=file):
            whole = files()
            at.write(whole, folder)
            at.same_bytes(folder / file, at.members_of(whole[file]), 4000)

        refused = reader != "depth .npz"
        yield Attack("4 GB by 4,000 names of a megabyte", reader, npz_bomb, refused)
        content = at.zipped({member: at.npy_header(f"({1 << 60},)")})
        yield Attack(
            "an array of 2^60 numbers", reader, at.beside(files, file, content), refused
        )

        def evil(outside, member=member):
            head = at.npy_header("(1,)", "'|O'")
            return at.zipped({member: head + pickle.dumps(at.Runs(outside))})

        yield Attack(
            "a pickle that runs a command",
            reader,
            at.beside(files, file, evil),
            refused,
        )
    for reader, file in (
        ("images .npy", "a.npy"),
        ("mask .npy", "masks/a.npy"),
        ("depth .npy", "depth/a.npy"),
    ):
        files, refused = READERS[reader].files[0], reader == "images .npy"
        for shape in (f"({1 << 60},)", f"({1 << 31}, 4)"):
            content = at.npy_header(shape)
            name = "an array that is not there"
            yield Attack(
                f"{name}, {shape}", reader, at.beside(files, file, content), refused
            )

        def pickled(outside):
            return at.npy_header("(1,)", "'|O'") + pickle.dumps(at.Runs(outside))

        yield Attack(
            "a pickle that runs a command",
            reader,
            at.beside(files, file, pickled),
            refused,
        )
    for name, old, new in (
        (
            "an image of 10^12 pixels",
            b'"height": 16, "width": 16',
            b'"height": 1000000, "width": 1000000',
        ),
        (
            "run lengths behind the mask",
            b"[0, 100, 156]",
            b"[0, 4000000000, 4000000000]",
        ),
        ("negative run lengths", b"[0, 100, 156]", b"[0, -100, 356]"),
        ("packed run lengths of noise", b"[0, 100, 156]", b'"' + b"o" * 26 + b'"'),
        ("a polygon far away", b"[1, 1, 9, 1, 9, 9]", b"[1, 1, 1e18, 1, 9, 1e18]"),
        ("a polygon of infinity", b"[1, 1, 9, 1, 9, 9]", b"[1, 1, 1e999, 1, 9, NaN]"),
    ):
        content = seeds.coco()["train.json"]
        if old not in content:
            raise ValueError(f"{old!r} is not in COCO's file")
        make = at.beside(seeds.coco, "train.json", content.replace(old, new))
        yield Attack(name, "COCO .json", make, False)
    content = b'{"file": "../outside/secret", "label": "a"}\n' * 2
    make = at.beside(READERS["table .jsonl"].files[0], "table.jsonl", content)
    yield Attack("a file outside as an image", "table .jsonl", make, False)
