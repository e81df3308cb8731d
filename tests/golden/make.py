"""Makes the golden checkpoints: small files written by the real packages.

Each case is a folder with the checkpoint as its package writes it and
`expected.npz`: `outputs`, what that package computes in inference mode, and
`images_shape`. The images are not stored: both sides draw them as `images` does.
`cases.json` lists the cases, `dense.json` those with outputs at each pixel, and of each

    case, file    the folder, and the checkpoint in it ("." is the folder itself)
    layout        whose naming of the weights it has
    package       what wrote it
    config        the fields of our ViTConfig that it implies; `layer_scale` says
                  whether there is LayerScale, whose start value no file tells
    needs         those of them that cannot be read from the file

No case is made by a test: the files are kept, and this script says where they come
from. Name the groups to make; the others stay as they are:

    python tests/golden/make.py timm huggingface huggingface-families vit-pytorch \\
        google --vision-transformer DIR --big-vision DIR
    python tests/golden/make.py open-clip
    python tests/golden/make.py keras-hub
    python tests/golden/make.py decoders --segmenter DIR
    python tests/golden/make.py vit-keras --vit-keras DIR
    python tests/golden/make.py vit-keras-2 --vit-keras DIR     # see below

What they need, and the versions the files were made with:

    pip install torch==2.15.0 torchvision==0.29.2 timm==1.0.31 transformers==5.23.0 \\
        vit-pytorch==1.26.11 safetensors==0.8.0 jax==0.10.2 flax==0.12.8 scipy
    git clone https://github.com/google-research/vision_transformer
        (vit_jax/models_vit.py as of 06862cdaf01e68e19de60c1853b3437a107d9c2c)
    git clone https://github.com/google-research/big_vision
        (big_vision/models/vit.py as of 5f95305cdb93f8da81fb21178a5024cff5ad4f96)
    git clone https://github.com/rstrudel/segmenter
        (segm/model as of 20d1bfad354165ee45c3f65972a4d9c131f58d53)
    pip install open_clip_torch==3.3.0
    pip install keras==3.15.1 tensorflow==2.21 keras-hub==0.32.0
    pip install --no-deps --target DIR vit-keras==0.2.0 \\
        && pip install keras==3.15.1 tensorflow==2.21 scipy validators
    pip install --no-deps --target DIR vit-keras==0.1.2 \\
        && pip install tf_keras==2.21.0 tensorflow==2.21 scipy validators
        (the last one for Keras 2, which 0.2.0 does not run on; in an environment
        of its own, as the three of Keras are)

Weights are drawn, too, all of them: many start as 0 or 1, where a swapped or forgotten
one would not be seen.
"""

import argparse
import importlib
import json
from pathlib import Path

from common import CASES, DENSE

# The module that makes a group, and its function there. Imported when asked for: no
# environment has all the packages.
GROUPS = {
    "google": ("by_google", "make_google"),
    "timm": ("by_timm", "make_timm"),
    "open-clip": ("by_open_clip", "make_open_clip"),
    "huggingface": ("by_huggingface", "make_huggingface"),
    "huggingface-families": ("by_huggingface_families", "make_families"),
    "decoders": ("by_decoders", "make_decoders"),
    "vit-pytorch": ("by_vit_pytorch", "make_vit_pytorch"),
    "keras-hub": ("by_keras", "make_keras_hub"),
    "vit-keras": ("by_keras", "make_vit_keras"),
    "vit-keras-2": ("by_keras", "make_vit_keras_2"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("groups", nargs="+", choices=GROUPS, metavar="GROUP")
    for option in (
        "--vision-transformer",
        "--big-vision",
        "--vit-keras",
        "--segmenter",
    ):
        parser.add_argument(option, type=Path, metavar="DIR")
    args = parser.parse_args()
    for group in args.groups:
        module, function = GROUPS[group]
        rows = getattr(importlib.import_module(module), function)(args)
        write_rows(DENSE if group == "decoders" else CASES, rows)
        print(group, *(row["case"] for row in rows))


def write_rows(table, rows):
    """Write rows into a table, in place of those of the same cases."""
    known = json.loads(table.read_text()) if table.exists() else []
    known = {row["case"]: row for row in [*known, *rows]}
    lines = ",\n".join(json.dumps(known[name]) for name in sorted(known))
    table.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
