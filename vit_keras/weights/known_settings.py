"""What each setting in the JSON files of other libraries says: the tables, as data.

A setting is read to a field of `ViTConfig`, tells what the arrays tell too, computes as
our models do with some values only, or says nothing about the computation. All others
are refused, unless they are switched off.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .entries import CheckpointError


@dataclasses.dataclass(frozen=True)
class Known:
    """The known settings of one JSON object.

    Arguments:
        read: those that become fields of `ViTConfig`.
        sizes: {setting: letter of the arrays' axes that must have this size}.
        weights: {setting: our weight that must be there just if it is switched on}.
        only: {setting: the values with which the network is one of ours}.
        silent: those that say nothing about what is computed.
    """

    read: tuple[str, ...] = ()
    sizes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
    only: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    silent: tuple[str, ...] = ()

    def __or__(self, other: "Known") -> "Known":
        """Return one table with the settings of both."""
        return Known(
            self.read + other.read,
            {**self.sizes, **other.sizes},
            {**self.weights, **other.weights},
            {**self.only, **other.only},
            self.silent + other.silent,
        )


# The arguments of `timm.create_model`, of its VisionTransformer and its Eva, ...
_TIMM_MODEL = Known(
    read=("num_heads", "global_pool", "img_size"),
    sizes={"embed_dim": "D", "depth": "L", "in_chans": "C", "patch_size": "pq"},
    weights={
        "qkv_bias": "encoderblock_0/attention/query/bias",
        "qk_norm": "encoderblock_0/attention/query_norm/gamma",
        "init_values": "encoderblock_0/layer_scale1/gamma",
        "class_token": "class_token/token",
    },
    only={"features_only": (False,)},
    silent=(
        # Of the arrays: their shapes, or whether they are there.
        *("mlp_ratio", "no_embed_class", "num_classes"),
        # Other sizes of images, and patches at the edge of one that does not divide.
        *("dynamic_img_size", "dynamic_img_pad", "strict_img_size"),
        # Training.
        *("drop_rate", "pos_drop_rate", "patch_drop_rate", "proj_drop_rate"),
        *("attn_drop_rate", "drop_path_rate", "drop_block_rate", "weight_init"),
        *("fix_init", "device", "dtype", "cache_dir", "scriptable", "exportable"),
    ),
)
# ... of the first alone ...
TIMM_ARGS = _TIMM_MODEL | Known(
    read=("act_layer", "pos_embed", "pool_include_prefix"),
    weights={
        "pre_norm": "pre_norm/gamma",
        "scale_attn_norm": "encoderblock_0/attention/inner_norm/gamma",
        "scale_mlp_norm": "encoderblock_0/mlp/inner_norm/gamma",
    },
    only={
        "proj_bias": (True,),
        "final_norm": (True,),
        "attn_layer": ("", "attn"),
        "norm_layer": ("layernorm", "layernormfp32"),
        "use_naflex": (False,),
    },
    silent=("fc_norm", "reg_tokens"),
)
# ... and of the second.
EVA_ARGS = _TIMM_MODEL | Known(
    read=(
        *("swiglu_mlp", "use_post_norm", "use_abs_pos_emb", "use_rot_pos_emb"),
        *("rope_type", "rope_grid_offset", "rope_grid_indexing", "rope_temperature"),
        *("rope_rotate_half", "ref_feat_shape", "attn_pool_num_heads"),
    ),
    weights={
        "use_pre_transformer_norm": "pre_norm/gamma",
        "use_abs_pos_emb": "posembed_input/embedding",
        "swiglu_mlp": "encoderblock_0/mlp/gate/kernel",
        "scale_mlp": "encoderblock_0/mlp/inner_norm/gamma",
        "scale_attn_inner": "encoderblock_0/attention/inner_norm/gamma",
    },
    only={"attn_type": ("eva", "rope"), "attn_only_layer_scale": (False,)},
    silent=(
        *("qkv_fused", "swiglu_align_to", "num_reg_tokens", "attn_pool_mlp_ratio"),
        *("use_fc_norm", "use_post_transformer_norm"),
        *("rope_shift_coords", "rope_jitter_coords", "rope_rescale_coords"),
        "head_init_scale",
    ),
)
TIMM = Known(
    read=("architecture", "global_pool", "model_args", "pretrained_cfg", "label_names"),
    silent=("num_classes", "num_features", "label_descriptions", "tags"),
)
TIMM_IMAGES = Known(
    read=(
        *("mean", "std", "interpolation", "crop_pct", "crop_mode", "input_size"),
        "label_names",
    ),
    only={"first_conv": ("patch_embed.proj",), "label_offset": (0,)},
    silent=(
        *("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source"),
        *("architecture", "tag", "custom_load", "test_input_size", "min_input_size"),
        *("fixed_input_size", "test_crop_pct", "num_classes", "num_features"),
        *("label_descriptions", "pool_size", "test_pool_size", "classifier"),
        *("license", "description", "origin_url", "paper_name", "paper_ids", "notes"),
        *("global_pool", "labels"),
    ),
)

# {`model_type`: (classes in transformers whose outputs ours are, fields they imply)}
MODEL_TYPES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "vit": (("ViTModel", "ViTForImageClassification"), {}),
    "deit": (
        (
            "DeiTModel",
            "DeiTForImageClassification",
            "DeiTForImageClassificationWithTeacher",
        ),
        {},
    ),
    "vit_mae": (("ViTMAEModel", "ViTMAEForPreTraining"), {}),
    "ijepa": (("IJepaModel", "IJepaForImageClassification"), {}),
    "vit_msn": (
        ("ViTMSNModel", "ViTMSNForImageClassification"),
        {"norm_epsilon": 1e-6},
    ),
    "dinov2": (
        ("Dinov2Model", "Dinov2Backbone", "Dinov2ForImageClassification"),
        {},
    ),
    "dinov2_with_registers": (
        (
            "Dinov2WithRegistersModel",
            "Dinov2WithRegistersBackbone",
            "Dinov2WithRegistersForImageClassification",
        ),
        {},
    ),
}
# Of every `PreTrainedConfig` of transformers, by old releases too.
_PRETRAINED = (
    *("transformers_version", "dtype", "torch_dtype", "_name_or_path", "name_or_path"),
    *("return_dict", "output_hidden_states", "output_attentions", "torchscript"),
    *("use_bfloat16", "tf_legacy_loss", "tie_word_embeddings", "is_encoder_decoder"),
    *("chunk_size_feed_forward", "label2id", "num_labels", "finetuning_task"),
    *("max_length", "min_length", "num_beams", "num_beam_groups", "temperature"),
    *("diversity_penalty", "top_k", "top_p", "typical_p", "repetition_penalty"),
    *("length_penalty", "num_return_sequences", "use_cache", "_attn_implementation"),
    *("attn_implementation", "_attn_implementation_autoset", "tie_encoder_decoder"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "transformers.js_config"),
    *("initializer_range", "drop_path_rate", "tokenizer_class", "use_return_dict"),
)
HUGGINGFACE = Known(
    read=(
        *("num_attention_heads", "layer_norm_eps", "hidden_act", "image_size"),
        *("patch_size", "problem_type", "id2label", "model_type", "architectures"),
    ),
    sizes={
        "hidden_size": "D",
        "num_hidden_layers": "L",
        "intermediate_size": "M",
        "num_channels": "C",
        "patch_size": "pq",
    },
    weights={
        "qkv_bias": "encoderblock_0/attention/query/bias",
        "use_swiglu_ffn": "encoderblock_0/mlp/gate/kernel",
    },
    only={"pooler_act": ("tanh",)},
    silent=(
        *_PRETRAINED,
        # Of the arrays: their shapes, or whether they are there.
        *("mlp_ratio", "num_register_tokens", "pooler_output_size", "use_mask_token"),
        # Training, and the reconstruction of hidden patches.
        *("hidden_dropout_prob", "attention_probs_dropout_prob", "layerscale_value"),
        *("encoder_stride", "mask_ratio", "norm_pix_loss", "interpolate_pos"),
        *("decoder_num_attention_heads", "decoder_hidden_size"),
        *("decoder_num_hidden_layers", "decoder_intermediate_size"),
        # Of a backbone for decoders: which of its blocks, and in which form.
        *("out_features", "out_indices", "_out_features", "_out_indices"),
        *("stage_names", "apply_layernorm", "reshape_hidden_states"),
    ),
)


def check_known(
    settings: Mapping[str, Any], known: Known, *, accept: bool = False
) -> None:
    """Refuse settings that are not understood, and values that none of ours computes.

    Arguments:
        settings: a JSON object.
        known: its table.
        accept: take settings that are in no table.

    Raises:
        CheckpointError: the message names the setting, its value and the valid ones.
    """
    names = {*known.read, *known.sizes, *known.weights, *known.silent}
    for name, value in settings.items():
        if name in known.only:
            if value is not None and value not in known.only[name]:
                valid = " or ".join(map(repr, known.only[name]))
                raise CheckpointError(
                    f"`{name}` must be {valid}: the models of this package have "
                    f"nothing else. Received from the settings: {value!r}"
                )
        elif name not in names and not accept and not _is_off(value):
            raise CheckpointError(
                f"`{name}` is no known setting, and must be None or False. "
                f"Received from the settings: {value!r}"
            )


def _is_off(value):
    return value is None or value is False or value in ("", [], {})


def one_of(title: str, value: Any, table: Mapping[Any, Any]) -> Any:
    """Return what a table has for the value of a setting.

    Arguments:
        title: of the setting, for the message.
        value: what stands in the JSON object.
        table: {valid value: what it means}.

    Raises:
        CheckpointError: the table has no such value; the message lists those it has.
    """
    if value not in table:
        raise CheckpointError(
            f"{title} must be one of {', '.join(map(repr, table))}. "
            f"Received from the settings: {value!r}"
        )
    return table[value]


def check_arrays(
    settings: Mapping[str, Any],
    known: Known,
    sizes: Mapping[str, int],
    weights: Mapping[str, Any],
) -> None:
    """Refuse settings that contradict the arrays of the same checkpoint.

    Arguments:
        settings, known: as in `check_known`.
        sizes: of each letter, from `recognise`.
        weights: our paths that the file has.

    Raises:
        CheckpointError: the message names the setting, its value and the arrays'.
    """
    for name, letters in known.sizes.items():
        value = settings.get(name)
        found = tuple(sizes.get(letter) for letter in letters)
        if value is None or None in found:
            continue
        wanted = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if wanted * (len(found) // len(wanted)) != found:
            one = found[0] if len(set(found)) == 1 else found
            raise CheckpointError(
                f"`{name}` must be {one}, as in the arrays. "
                f"Received from the settings: {value!r}"
            )
    for name, path in known.weights.items():
        if name in settings and bool(settings[name]) != (path in weights):
            raise CheckpointError(
                f"`{name}` must fit the arrays, which have "
                f"{'such' if path in weights else 'no such'} weights. "
                f"Received from the settings: {settings[name]!r}"
            )
