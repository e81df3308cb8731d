"""Golden checkpoints of open_clip: a hub's folder, and a bare file."""

import torch
from common import SIZES, Maker, images, version
from open_clip.model import CLIP
from open_clip.push_to_hf_hub import save_config_for_hf
from pytorch import fill, run
from safetensors.torch import save_file

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
VISION = {"image_size": 16, "patch_size": 4, "width": 8, "layers": 2}
VISION |= {"head_width": 4, "mlp_ratio": 1.5}
TEXT = {"context_length": 3, "vocab_size": 7, "width": 8, "heads": 2, "layers": 1}


def make_open_clip(args):
    make = Maker("open_clip", version("open_clip_torch"))
    config = {n: v for n, v in SIZES.items() if n != "classes"}
    config |= {"include_top": False, "class_token": True, "norm_epsilon": 1e-5}
    config |= {"representation_size": 6, "representation_activation": "linear"}
    x = images()

    name, quick = "open-clip", {"mlp_activation": "quick_gelu"}
    settings = {"embed_dim": 6, "quick_gelu": True}
    settings |= {"vision_cfg": VISION, "text_cfg": TEXT}
    model = fill(CLIP(**settings))
    folder = make.folder(name)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    model.visual.image_mean, model.visual.image_std = MEAN, STD
    save_config_for_hf(model, folder / "open_clip_config.json", settings)
    more = {"pooling": "token", "pre_norm": True}
    make.add(name, ".", x, run(model.visual, x), config | more | quick)

    name, file = "open-clip-bare", "epoch_1.pt"
    vision = {"ls_init_value": 0.5, "pool_type": "avg", "no_ln_pre": True}
    model = fill(CLIP(**settings | {"vision_cfg": VISION | vision}))
    state = {f"module.{n}": tensor for n, tensor in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, make.folder(name) / file)
    needs = {"num_heads": 2, "pooling": "gap"} | quick
    more = {"pooling": "gap", "layer_scale": True}
    make.add(name, file, x, run(model.visual, x), config | more | quick, needs)
    return make.rows
