"""Makes float `.tflite` files of PyTorch ViTs, as litert-torch converts them.

Beside each, `NAME.npz` holds `images` (2, C, H, W) or (2, H, W, C), float32, as the
file takes them, and `outputs`, what PyTorch computes. The files are kept; this script
says where they come from:

    pip install torch==2.13.0 litert-torch==0.10.0 transformers==5.23.0
    pip install --no-deps timm==1.0.31
    python tests/golden/litert-torch/make.py
"""

import pathlib
import sys

import litert_torch
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[2]))
from tests.peers import without_torchvision  # noqa: E402

without_torchvision()
import timm  # noqa: E402
from timm.models.vision_transformer import VisionTransformer  # noqa: E402

SIZES = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 5,
}
TIMM = {
    "timm-token": {},
    "timm-gap": {"global_pool": "avg", "class_token": False, "fc_norm": True},
    "timm-registers": {"reg_tokens": 3, "init_values": 0.1, "qk_norm": True},
    "timm-map": {"global_pool": "map", "class_token": False},
}


def fill(model, seed=0):
    """Draw every weight, so that none is 0 or 1; returns the model for inference."""
    draws = np.random.default_rng(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            value = draws.normal(0, 1, weight.shape)
            if "norm" in name and name.endswith("weight"):
                value = np.exp(0.3 * value)
            elif weight.ndim > 1 and "embed" not in name and "token" not in name:
                value = value * np.sqrt(1.5 / weight[0].numel())
            else:
                value = 0.2 * value
            weight.copy_(torch.tensor(value))
    return model.eval()


def write(name, model, channels_last=False):
    """Convert a model and keep what it computes."""
    draws = np.random.default_rng(1)
    images = draws.normal(size=(2, 3, 32, 32)).astype("float32")
    with torch.no_grad():
        outputs = model(torch.tensor(images)).numpy()
    if channels_last:
        model = litert_torch.to_channel_last_io(model, args=[0])
        images = images.transpose(0, 2, 3, 1)
    sample = (torch.tensor(images[:1]),)
    litert_torch.convert(model, sample).export(str(FOLDER / f"{name}.tflite"))
    np.savez(FOLDER / f"{name}.npz", images=images, outputs=outputs)
    print(name, (FOLDER / f"{name}.tflite").stat().st_size)


class Logits(torch.nn.Module):
    """A model of Hugging Face that returns its logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model(images).logits


def main():
    for name, options in TIMM.items():
        write(name, fill(VisionTransformer(**SIZES | options)))
    write("timm-channels-last", fill(VisionTransformer(**SIZES)), channels_last=True)
    import transformers as hf

    for attention in ("sdpa", "eager"):
        config = hf.ViTConfig(
            **{"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_labels": 5},
            **{"num_hidden_layers": 2, "num_attention_heads": 4},
            intermediate_size=64,
            attn_implementation=attention,
        )
        write(f"hf-{attention}", Logits(fill(hf.ViTForImageClassification(config))))


if __name__ == "__main__":
    print("timm", timm.__version__, "litert-torch", litert_torch.__version__)
    main()
