"""Zero-shot classifiers give what CLIP and SigLIP of transformers give."""

import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import vit_keras
from tests.models import run as outputs_of
from tests.program import refused, run
from tests.vit_keras.weights.compared import images
from tests.vit_keras.weights.text_models import (
    BIAS,
    LENGTH,
    SCALE,
    saved,
    theirs,
    tokens_of,
)
from vit_keras import text_tower

KINDS = ("clip", "siglip", "siglip2")
LABELS = ["cat", "dog", "a lazy fox"]
TEXTS = [f"a photo of a {label}" for label in LABELS]
# Two blocks and a cosine in float32, times 20; the largest difference seen is 2e-7.
TOLERANCE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def folder(hf, kind, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def labels_file(path, labels=LABELS):
    path.write_text("\n".join(labels) + "\n", encoding="utf-8")
    return path


def command(folder, *more, labels=LABELS):
    file = labels_file(folder.parent / "labels.txt", labels)
    out = folder.parent / "out" / "model.keras"
    words = ("--weights", folder, "--labels", file, "--out", out)
    return run("vit-keras", "zero-shot", *words, *more), out


def test_the_command_gives_their_probabilities(hf, kind, folder):
    model, tokenizer = saved(hf, kind, folder)
    done, out = command(folder)
    assert done.returncode == 0, done.stderr
    ours = keras.models.load_model(out)
    x = images()
    expected = theirs(kind, model, tokenizer, x, TEXTS)
    assert np.ptp(expected) > 0.02  # else any texts would do
    np.testing.assert_allclose(outputs_of(ours, x), expected, **TOLERANCE)
    assert ours.config.labels == tuple(LABELS)
    bias = "" if kind == "clip" else f", logit bias {BIAS:.4g}"
    assert done.stdout.splitlines() == [
        f"wrote {out}: {kind}, labels 3, templates 1",
        f"logit scale {SCALE:.4g}{bias}",
        f"next: vit-export tflite {out} {out.with_suffix('.tflite')}",
    ]


def test_templates_are_averaged_as_the_notebook_of_clip_does(hf, kind, folder):
    import torch

    model, tokenizer = saved(hf, kind, folder)
    templates = ["a photo of a {}", "{} in the sea", "drawing of {}"]
    found = vit_keras.text_embeddings(folder, LABELS, templates)
    for label, row in zip(LABELS, found.embeddings, strict=True):
        texts = [template.format(label) for template in templates]
        with torch.inference_mode():
            features = model.get_text_features(**tokens_of(kind, tokenizer, texts))
        features = features.pooler_output
        features = features / features.norm(dim=-1, keepdim=True)
        mean = features.mean(dim=0)
        np.testing.assert_allclose(row, mean / mean.norm(), rtol=0, atol=1e-6)
    assert found.embeddings.dtype == "float32" and found.kind == kind
    assert found.logit_scale == pytest.approx(SCALE, rel=1e-6)
    assert found.logit_bias == (None if kind == "clip" else BIAS)


def test_batches_and_half_precision(hf, kind, folder, monkeypatch):
    """Padding to the longest text, and the file's dtype, change nothing."""
    model, tokenizer = saved(hf, kind, folder)
    found = vit_keras.text_embeddings(folder, LABELS)
    monkeypatch.setattr(text_tower, "BATCH", 2)
    again = vit_keras.text_embeddings(folder, LABELS)
    np.testing.assert_allclose(again.embeddings, found.embeddings, rtol=0, atol=1e-6)
    half = model.bfloat16()
    half.save_pretrained(folder)
    rounded = vit_keras.text_embeddings(folder, LABELS).embeddings
    half.float().save_pretrained(folder)
    expected = vit_keras.text_embeddings(folder, LABELS).embeddings
    np.testing.assert_array_equal(rounded, expected)
    assert np.abs(rounded - found.embeddings).max() > 1e-5


def test_predict_names_the_label_and_another_size(hf, kind, folder):
    saved(hf, kind, folder)
    done, out = command(folder, "--image-size", "32x48", "--template", "{}")
    assert done.returncode == 0, done.stderr
    assert keras.models.load_model(out).config.image_size == (32, 48)
    photo = folder.parent / "photo.png"
    Image.fromarray(np.arange(40 * 60 * 3, dtype="uint8").reshape(40, 60, 3)).save(
        photo
    )
    answer = run("vit-keras", "predict", out, photo)
    assert answer.returncode == 0, answer.stderr
    assert any(f"{label} " in answer.stdout for label in LABELS)


def test_texts_of_siglip_are_plain(hf, tmp_path):
    """As big_vision evaluates them, whatever the tokenizer does."""
    model, tokenizer = saved(hf, "siglip", tmp_path)
    plain = vit_keras.text_embeddings(tmp_path, ["lazy dog"]).embeddings
    marked = vit_keras.text_embeddings(
        tmp_path, ["Lazy_Dog"], "A  photo, of a {}!"
    ).embeddings
    np.testing.assert_array_equal(marked, plain)
    with pytest.raises(ValueError, match="Received: 'c' and 'C[+][+]'"):
        vit_keras.text_embeddings(tmp_path, ["c", "C++"])


def test_folders_that_can_not_be_used(hf, tmp_path):
    with pytest.raises(FileNotFoundError, match="`weights` must be a folder"):
        vit_keras.text_embeddings(tmp_path / "no", LABELS)
    with pytest.raises(vit_keras.CheckpointError, match="config.json' cannot be read"):
        vit_keras.text_embeddings(tmp_path, LABELS)
    model, tokenizer = saved(hf, "clip", tmp_path)
    config = tmp_path / "config.json"
    told = config.read_text()
    config.write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(vit_keras.CheckpointError, match="clip, siglip.*'vit'"):
        vit_keras.text_embeddings(tmp_path, LABELS)
    config.write_text(told)
    text = {k: v for k, v in model.state_dict().items() if "text_projection" not in k}
    model.save_pretrained(tmp_path, state_dict=text)
    with pytest.raises(vit_keras.CheckpointError, match="Missing: text_projection"):
        vit_keras.text_embeddings(tmp_path, LABELS)
    model.save_pretrained(tmp_path)
    for name in ("vocab.json", "tokenizer.json"):
        (tmp_path / name).unlink(missing_ok=True)
    with pytest.raises(vit_keras.CheckpointError, match="has no tokenizer"):
        vit_keras.text_embeddings(tmp_path, LABELS)


def test_texts_that_can_not_be_used(hf, tmp_path):
    model, tokenizer = saved(hf, "clip", tmp_path)
    with pytest.raises(ValueError, match=f"must fit into {LENGTH} tokens.*a photo of"):
        vit_keras.text_embeddings(tmp_path, ["cat", "w" * LENGTH])
    with pytest.raises(ValueError, match="'cat' and 'CAT'"):
        vit_keras.text_embeddings(tmp_path, ["cat", "CAT"])
    for templates in ((), ["a photo"], "a photo", [1]):
        with pytest.raises(ValueError, match="`templates` must be texts with {}"):
            vit_keras.text_embeddings(tmp_path, LABELS, templates)
    tokenizer.add_tokens(["fox"])
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(vit_keras.CheckpointError, match="tokenizer must be that of"):
        vit_keras.text_embeddings(tmp_path, ["cat", "fox"])


def test_bad_usage(hf, tmp_path):
    folder = tmp_path / "weights"
    done, out = command(folder)
    refused(done, "vit-keras", "`weights` must be a folder")
    folder.mkdir()
    refused(command(folder, "--template", "cat")[0], "vit-keras", "`templates` must")
    refused(command(folder, "--image-size", "x")[0], "vit-keras", "`--image-size`")
    refused(command(folder, labels=["a", "", "b"])[0], "vit-keras", "'' as number 1")
    refused(command(folder, labels=["a", "a"])[0], "vit-keras", "twice: a")
    other = ("--out", tmp_path / "model.h5")
    refused(command(folder, *other)[0], "vit-keras", "must end in '.keras'")
    assert not out.parent.exists()


@pytest.mark.parametrize("package", ["transformers", "torch", "sentencepiece"])
def test_missing_packages_are_named(package, hf, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    if package == "torch":
        monkeypatch.setattr(hf.utils, "is_torch_available", lambda: False)
    elif package == "transformers":
        monkeypatch.setitem(sys.modules, "transformers", None)
    else:

        def refuse(*_, **__):  # as it does without one of the two packages
            raise ImportError("SiglipTokenizer requires the SentencePiece library")

        monkeypatch.setattr(hf.AutoTokenizer, "from_pretrained", refuse)
    with pytest.raises(ImportError, match=f"need {package}.*: pip install .*zero-shot"):
        vit_keras.text_embeddings(tmp_path, LABELS)
