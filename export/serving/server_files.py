"""Files beside a SavedModel with which TF Serving runs it, and a client.

Formats: TF Serving's `model_server_config.proto`, `session_bundle_config.proto` and
`monitoring_config.proto`, as text.
"""

import os
import pathlib
import shutil

from vit_keras.atomic import publishing

from ..errors import missing
from ..report import versions
from . import client

INSIDE = "2.20.0"  # the release of TensorFlow in the image
IMAGE = f"tensorflow/serving:{INSIDE}"
# Sizes that requests are gathered to; the last is the most that one may have.
BATCHES = (1, 2, 4, client.MOST)

MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 2 }} }}
  }}
}}
"""

BATCHING = """\
max_batch_size {{ value: {largest} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 2 }}
{allowed}
"""

MONITORING = """\
prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }
"""

COMPOSE = """\
services:
  serving:
    image: {image}
    ports: ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    volumes:
      - {models}:/models/{name}:ro
      - .:/config:ro
    command:
      - --model_config_file=/config/models.config
      - --enable_batching
      - --batching_parameters_file=/config/batching_parameters.txt
      - --monitoring_config_file=/config/monitoring.config
      - --enable_model_warmup
    restart: unless-stopped
"""

README = """\
# {name} on TF Serving

    docker compose up
    python client.py {name} photo.jpg

| file | what it says |
|---|---|
| `docker-compose.yml` | {image} on this machine's ports 8500 (gRPC) and 8501 (REST) |
| `models.config` | versions of `{name}` that are served: the latest two |
| `batching_parameters.txt` | requests wait 2 ms to be run at once, {largest} at most |
| `monitoring.config` | metrics at `:8501/monitoring/prometheus/metrics` |
| `client.py` | how to ask, by REST and by gRPC, {largest} images at a time |

Proven where this was written: the SavedModel by TensorFlow's own loader,
`models.config` by TF Serving's message definition, the client against a server that
speaks the same protocol. Not run there: the container and the server itself.

The image is pinned, so that the server changes when you say so, to the newest release
when this was written. It holds TensorFlow {inside}; the model is from {tensorflow}.
TensorFlow promises that a later release reads what an earlier one wrote, not the
reverse. The C loader of {inside} was tried on all signatures but `classify`: its ids
and labels were those of 2.21.0, its values within 8e-7. If the server misses an
operator, take a newer image.

`predict_bytes` reads JPEG, PNG, WebP, BMP and GIF. Of an animated GIF or PNG it takes
the first picture; transparent pixels of a GIF are black. Animated WebP, BMP of less
than 8 bits and everything else are `valid` false.

A new version goes beside the old one, as `{parent}/2`; compare them first:

    vit-export compare {parent}/{version} {parent}/2 --data PHOTOS
"""


def check_version(saved_model):
    """A SavedModel's directory as a path.

    Raises:
        ValueError: its name is no version number.
    """
    path = pathlib.Path(saved_model)
    if not path.name.isdigit():
        raise ValueError(
            "the SavedModel must be named NAME/VERSION, with a number as version. "
            f"Received: '{saved_model}'"
        )
    return path


def write_serving_files(saved_model, folder):
    """Write the files that serve a SavedModel.

    Arguments:
        saved_model: the directory, NAME/VERSION.
        folder: where to write; made if it is not there. Files of an earlier call are
            replaced.

    Raises:
        ValueError: the directory's name is no version number.
        OSError: a file cannot be written.
    """
    saved_model, folder = check_version(saved_model), pathlib.Path(folder)
    installed = versions()
    if "tensorflow" not in installed:
        raise missing("tensorflow")
    folder.mkdir(parents=True, exist_ok=True)
    parent = os.path.relpath(saved_model.resolve().parent, folder.resolve())
    known = {
        "name": saved_model.resolve().parent.name,
        "version": saved_model.name,
        "parent": parent,
        "models": parent if parent.startswith(".") else f"./{parent}",
        "image": IMAGE,
        "inside": INSIDE,
        "largest": BATCHES[-1],
        "allowed": "\n".join(f"allowed_batch_sizes: {size}" for size in BATCHES),
        "tensorflow": installed["tensorflow"],
    }
    for name, text in (
        ("models.config", MODELS.format(**known)),
        ("batching_parameters.txt", BATCHING.format(**known)),
        ("monitoring.config", MONITORING),
        ("docker-compose.yml", COMPOSE.format(**known)),
        ("README.md", README.format(**known)),
    ):
        with publishing(folder / name) as work:
            work.write_text(text, encoding="utf-8")
    shutil.copy(client.__file__, folder / "client.py")
