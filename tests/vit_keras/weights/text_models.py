"""Small random models of images and texts of transformers, with their tokenizers."""

import io
import math
import string

import numpy as np
import pytest

from tests.vit_keras.weights.compared import fill

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
IMAGES = SIZES | {"image_size": 32, "patch_size": 8}
LENGTH = 32  # tokens of a text at most
SCALE, BIAS = 20.0, 5.0  # published biases are below 0
START, END = "<|startoftext|>", "<|endoftext|>"
CORPUS = (
    "a photo of a cat and a dog",
    "this is a drawing of an owl in the sea",
    "the quick brown fox jumps over the lazy dog",
)


def clip_tokenizer(hf):
    """Of printable ASCII, with one word."""
    marks = [chr(code) for code in range(33, 127)]
    tokens = [*marks, *(mark + "</w>" for mark in marks), START, END, "ca", "cat</w>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return hf.CLIPTokenizer(vocab=vocab, merges=[("c", "a"), ("ca", "t</w>")])


def siglip_tokenizer(hf, folder):
    spm = pytest.importorskip("sentencepiece", reason="the tokenizer of SigLIP")
    pytest.importorskip("google.protobuf", reason="the tokenizer of SigLIP")
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter((*CORPUS, string.ascii_lowercase)),
        model_writer=written,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(written.getvalue())
    return hf.SiglipTokenizer(str(folder / "spiece.model"))


def siglip2_tokenizer(hf):
    """Gemma's, of letters."""
    tokens = (
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "▁",
        *string.ascii_lowercase,
    )
    return hf.Siglip2Tokenizer(vocab={token: i for i, token in enumerate(tokens)})


def tokenizer_of(hf, kind, folder):
    if kind == "siglip":
        return siglip_tokenizer(hf, folder)
    return clip_tokenizer(hf) if kind == "clip" else siglip2_tokenizer(hf)


def saved(hf, kind, folder):
    """Save a model with its tokenizer; returns both."""
    clip, tokenizer = kind == "clip", tokenizer_of(hf, kind, folder)
    texts = SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": LENGTH}
    for name in ("bos", "eos", "pad"):
        texts[f"{name}_token_id"] = getattr(tokenizer, f"{name}_token_id", None)
    images = IMAGES | {"attn_implementation": "eager"}
    if kind == "siglip2":
        images = SIZES | {"patch_size": 8, "num_patches": 16}
    configs = {"text_config": texts, "vision_config": images}
    if clip:
        model = hf.CLIPModel(hf.CLIPConfig(**configs, projection_dim=12))
    elif kind == "siglip":
        model = hf.SiglipModel(hf.SiglipConfig(**configs))
    else:
        model = hf.Siglip2Model(hf.Siglip2Config(**configs))
    fill(model)
    model.logit_scale.data.fill_(math.log(SCALE))
    if not clip:
        model.logit_bias.data.fill_(BIAS)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def tokens_of(kind, tokenizer, texts):
    """As the library's documentation calls them."""
    options = {"padding": True}
    if kind != "clip":
        options = {"padding": "max_length", "max_length": LENGTH}
    tokens = tokenizer(texts, return_tensors="pt", **options)
    if kind != "clip":  # published tokenizers of SigLIP give no mask
        return {"input_ids": tokens["input_ids"]}
    return dict(tokens)


def theirs(kind, model, tokenizer, images, texts):
    """Probabilities of texts by transformers, for images (N, H, W, C)."""
    import torch

    pixels = {"pixel_values": torch.from_numpy(images.transpose(0, 3, 1, 2).copy())}
    if kind == "siglip2":  # patches row by row, and their number along both sides
        n, height, width, _ = images.shape
        patches = images.reshape(n, height // 8, 8, width // 8, 8, 3)
        patches = patches.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, 8 * 8 * 3)
        pixels = {
            "pixel_values": torch.from_numpy(np.ascontiguousarray(patches)),
            "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int64),
            "spatial_shapes": torch.tensor([[height // 8, width // 8]] * n),
        }
    with torch.inference_mode():
        outputs = model(**pixels, **tokens_of(kind, tokenizer, texts))
    logits = outputs.logits_per_image
    return (logits.softmax(-1) if kind == "clip" else logits.sigmoid()).numpy()
