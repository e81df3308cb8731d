"""What all golden checkpoints share: sizes, images, drawn weights, table rows."""

import importlib.metadata
import shutil
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
CASES = HERE / "cases.json"
DENSE = HERE / "dense.json"  # models with outputs at each pixel

# As small as shows a swapped axis: no two widths are the same.
SIZES = {
    "image_size": [16, 16],
    "patch_size": [4, 4],
    "num_layers": 2,
    "hidden_size": 8,
    "num_heads": 2,
    "mlp_dim": 12,
    "classes": 5,
}
FEATURES = {k: v for k, v in SIZES.items() if k != "classes"} | {"include_top": False}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def images(height=16, width=16):
    """The input of every case, (N, H, W, C)."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, height, width, 3)).astype("float32")


def draw(rng, shape, kind="weight"):
    """A random weight; "scale" is that of a norm, "layer_scale" the small one."""
    centre, spread = {
        "weight": (0.0, 0.4),
        "scale": (1.0, 0.2),
        "layer_scale": (0.5, 0.1),
    }[kind]
    value = centre + spread * rng.standard_normal(shape)
    # Few digits, so that the files compress well in the repository.
    return (np.round(value * 1024) / 1024).astype("float32")


class Maker:
    """Writes the cases of one package and collects their rows of the table."""

    def __init__(self, layout, package):
        self.layout, self.package, self.rows = layout, package, []

    def folder(self, case):
        """The empty folder of a case."""
        folder = HERE / case
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def folder_of(self, case):
        """The folder of a case, with what is in it."""
        return HERE / case

    def add(self, case, file, x, outputs, config, needs=None, layout=None):
        """Stores what the package computed for the images `x`, and the row."""
        outputs = np.asarray(outputs, "float32")
        if not (np.isfinite(outputs).all() and 0.1 < outputs.std() < 10):
            raise ValueError(f"{case}: outputs of no use: {outputs}")
        np.savez(
            HERE / case / "expected.npz",
            outputs=outputs,
            images_shape=np.array(x.shape, "int64"),
        )
        self.rows.append(
            {
                "case": case,
                "file": file,
                "layout": layout or self.layout,
                "package": self.package,
                "config": config,
                "needs": needs or {},
            }
        )


def version(name):
    return f"{name} {importlib.metadata.version(name)}"
