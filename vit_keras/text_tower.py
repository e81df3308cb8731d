"""`text_embeddings`: what the text model of CLIP or SigLIP makes of labels.

It runs in `transformers` (PyTorch), once, before anything is exported: its result are
K x D numbers.
"""

import dataclasses
import importlib
import os
import pathlib
import string
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .labels import check_labels
from .text_files import read_json
from .weights.entries import CheckpointError

TEMPLATES = ("a photo of a {}",)
BATCH = 64  # texts at a time


class TextTower(NamedTuple):
    """How the texts of a family of models were made in its training.

    Attributes:
        model: class of `transformers`.
        padded: whether all texts have the full length, and padding is read like other
            tokens; else it is masked. big_vision, which trained SigLIP, has no mask.
        plain: whether texts are in lower case and without punctuation, as big_vision
            evaluates them. SigLIP's tokenizer does this itself, that of SigLIP 2
            (arXiv 2502.14786), which is Gemma's, does not.
    """

    model: str
    padded: bool
    plain: bool


# By `model_type` in config.json.
TEXT_TOWERS = {
    "clip": TextTower("CLIPModel", padded=False, plain=False),
    "siglip": TextTower("SiglipModel", padded=True, plain=True),  # and SigLIP 2
    "siglip2": TextTower("Siglip2Model", padded=True, plain=True),  # NaFlex
}


@dataclasses.dataclass(frozen=True)
class TextEmbeddings:
    """Embedded labels, and how their model makes logits of cosines.

    Attributes:
        embeddings: float32 (K, D), each row of length 1.
        logit_scale: by which a cosine is multiplied (not its logarithm).
        logit_bias: added to it, or None (CLIP).
        kind: a name in `TEXT_TOWERS`.
    """

    embeddings: np.ndarray
    logit_scale: float
    logit_bias: float | None
    kind: str


def text_embeddings(
    weights: str | os.PathLike[str],
    labels: Sequence[str],
    templates: Sequence[str] = TEMPLATES,
) -> TextEmbeddings:
    """Embed labels by the text model of a CLIP or SigLIP, for `zero_shot`.

    Each label is put into each template; the normalised embeddings of its texts are
    averaged, and the mean is normalised (CLIP, arXiv 2103.00020, section 3.1.4).

    Arguments:
        weights: a folder from `save_pretrained`, or a copy of a repository of Hugging
            Face: config.json, weights of both towers, and the tokenizer's files.
            Nothing is downloaded.
        labels: K different names.
        templates: texts with `{}` where the label stands.

    Returns:
        Embeddings float32 (K, D), the scale and bias of logits, and their kind.

    Raises:
        ImportError: `transformers`, or what it needs, is missing.
        FileNotFoundError: there is no such folder.
        CheckpointError: it has no CLIP or SigLIP, not all of its weights, or no
            tokenizer.
        ValueError: labels or templates are invalid, a text is longer than the model's
            positions, or two labels have the same tokens.
    """
    names, templates = check_labels(labels), check_templates(templates)
    folder = pathlib.Path(weights)
    kind = text_tower_of(folder)
    tower = TEXT_TOWERS[kind]
    transformers = _transformers()
    tokenizer = _open_tokenizer(transformers, folder)
    model = _open_text_model(getattr(transformers, tower.model), folder)

    # All tokens first: a text that is too long is found before hours of computing.
    tokens = [
        _tokens(tokenizer, tower, model.config.text_config, template, names)
        for template in templates
    ]
    total = sum(
        np.concatenate([_unit(part) for part in _embedded(model, tower, rows)])
        for rows in tokens
    )
    bias = getattr(model, "logit_bias", None)
    return TextEmbeddings(
        _unit(total).astype("float32"),
        float(np.exp(float(model.logit_scale))),
        None if bias is None else float(bias),
        kind,
    )


def check_templates(templates: Sequence[str]) -> list[str]:
    """Return templates, after checking that a label has a place in each.

    Raises:
        ValueError: there is none, or one has no `{}`.
    """
    found = [templates] if isinstance(templates, str) else list(templates)
    if not found or not all(isinstance(text, str) and "{}" in text for text in found):
        raise ValueError(
            "`templates` must be texts with {} for the label, such as "
            f"{TEMPLATES[0]!r}. Received: {templates!r}"
        )
    return found


def text_tower_of(folder: pathlib.Path) -> str:
    """Return the name in `TEXT_TOWERS` of a folder of Hugging Face.

    Raises:
        FileNotFoundError: it does not exist.
        CheckpointError: it is another model, or has no config.json.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`weights` must be a folder with a CLIP or SigLIP. Received: '{folder}'"
        )
    file = folder / "config.json"
    try:
        kind = read_json(file).get("model_type")
    except (OSError, ValueError, AttributeError) as error:  # none, or no JSON object
        raise CheckpointError(f"'{file}' cannot be read: {error}") from error
    if not isinstance(kind, str) or kind not in TEXT_TOWERS:
        raise CheckpointError(
            f"'{file}' must have a `model_type` of {', '.join(TEXT_TOWERS)}, models "
            f"of images and texts. Received: model_type={kind!r}"
        )
    return kind


def _transformers() -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise _missing(error.name) from error
    if not transformers.utils.is_torch_available():
        raise _missing("torch")
    return transformers


def _missing(package):
    return ImportError(f'texts need {package}: pip install "vit-keras-edge[zero-shot]"')


def _open_tokenizer(transformers, folder):
    # Never code from the folder.
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    except ImportError as error:
        raise _missing("sentencepiece and protobuf") from error
    except Exception as error:  # of many kinds, those of the Rust library among them
        raise CheckpointError(f"'{folder}' has no tokenizer: {error}") from error
    # Without its file the tokenizer of CLIP has no words, and says nothing.
    files = tokenizer.vocab_files_names
    wanted = [files[key] for key in ("vocab_file", "tokenizer_file") if key in files]
    if not any((folder / name).is_file() for name in wanted):
        raise CheckpointError(
            f"'{folder}' has no tokenizer: there must be {' or '.join(wanted)}"
        )
    return tokenizer


def _open_text_model(cls, folder):
    """Open both towers; float32, whatever the file has."""
    options = {"local_files_only": True, "dtype": "float32"}
    try:
        model, info = cls.from_pretrained(folder, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"'{folder}' cannot be read: {error}") from error
    missing = sorted(info["missing_keys"])  # which it would draw at random
    if missing:
        raise CheckpointError(
            f"'{folder}' must have the weights of both towers. Missing: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    return model.eval().requires_grad_(False)


def _plain(text):
    """Return a text in lower case, without punctuation, with single spaces."""
    removed = {ord(mark): None for mark in string.punctuation} | {ord("_"): " "}
    return " ".join(text.lower().translate(removed).split())


def _tokens(tokenizer, tower, config, template, labels):
    """Return the tokens of each label in a template, and check them."""
    texts = [template.replace("{}", label) for label in labels]
    if tower.plain:
        texts = [_plain(text) for text in texts]
    most = config.max_position_embeddings
    seen: dict[tuple[int, ...], str] = {}
    rows = tokenizer(texts)["input_ids"]
    for label, text, row in zip(labels, texts, rows, strict=True):
        if len(row) > most:
            raise ValueError(
                f"`labels` must fit into {most} tokens with their template. Received: "
                f"{text!r}, {len(row)} tokens"
            )
        if max(row) >= config.vocab_size:
            raise CheckpointError(
                f"the tokenizer must be that of the model, of {config.vocab_size} "
                f"tokens. Received: token {max(row)} for {text!r}"
            )
        other = seen.setdefault(tuple(row), label)
        if other != label:
            raise ValueError(
                "`labels` must differ in the tokens of the model. Received: "
                f"{other!r} and {label!r}, which are the same to its tokenizer"
            )
    if tower.padded:
        options = {"padding": "max_length", "max_length": most}
    else:
        options = {"padding": True}
    return tokenizer(texts, return_tensors="pt", **options)


def _embedded(model, tower, tokens) -> Iterator[np.ndarray]:
    """Embed tokens, some texts at a time: float64 (n, D) each."""
    ids, mask = tokens["input_ids"], tokens.get("attention_mask")
    for start in range(0, len(ids), BATCH):
        part: dict[str, Any] = {"input_ids": ids[start : start + BATCH]}
        if not tower.padded:
            part["attention_mask"] = mask[start : start + BATCH]
        yield model.get_text_features(**part).pooler_output.numpy().astype("float64")


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
