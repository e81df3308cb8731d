"""Finds the plain ViT in a traced graph."""

import dataclasses

import numpy as np

from ..vit_weights import Weights
from .blocks import read_blocks
from .embedding import read_embedding, read_input_scale
from .head import read_head
from .probes import read_norm, steps
from .traced_graph import TracedGraph, Unrecognised


@dataclasses.dataclass(frozen=True)
class RecognisedViT:
    """The plain ViT of a graph, and what is around it.

    Attributes:
        weights: all of the ViT; a scale of the input is folded into its embedding.
        front: (start, end) of the graph before it, tensors, or None.
        tail: (start, end) of the graph behind it, or None.
        features: the tensor of all tokens behind the last norm.
        layout: of what it embeds: "NHWC", "NCHW", or "tokens" (N, T, C).
        input_scale: (scale, offset) per channel with which the graph begins, or None.
        differences: what `weights.config` does not say of it, one phrase each.
    """

    weights: Weights
    front: tuple[int, int] | None
    tail: tuple[int, int] | None
    features: int
    layout: str
    input_scale: tuple[np.ndarray, np.ndarray] | None
    differences: tuple[str, ...]

    @property
    def config_exact(self) -> bool:
        """Whether a model of `weights.config` can compute the same."""
        return not self.differences


def recognise(graph: TracedGraph) -> RecognisedViT:
    """The plain pre-norm ViT in a graph.

    Raises:
        Unrecognised: there is none; the message is the reason.
    """
    import tensorflow as tf

    try:
        return _recognise(graph)
    except Unrecognised:
        raise
    # What was taken for a piece of a ViT has other shapes, or does not run.
    except (ValueError, TypeError, LookupError, tf.errors.OpError) as error:
        first = str(error).partition("\n")[0]
        raise Unrecognised(f"a piece of the graph that cannot be read: {first}") from (
            error
        )


def _recognise(graph):
    from vit_keras import Preprocessing, ViTConfig

    chain = read_blocks(graph)
    blocks = chain.blocks
    way = steps(graph, graph.input, chain.start)
    pre_norm = None
    if way and way[-1].kind == "norm":
        pre_norm = read_norm(graph, way.pop())
    if not way or way[-1].kind != "linear":
        kinds = ", ".join(step.kind for step in way) or "nothing"
        raise Unrecognised(f"tokens made by {kinds}, not by a linear layer")
    front = None if way[-1].start == graph.input else (graph.input, way[-1].start)
    embedding = read_embedding(graph, way[-1].start, way[-1].end)
    prefix = len(embedding.prefix)
    head = read_head(graph, chain.end, prefix)
    first, channels = blocks[0], embedding.channels
    config = ViTConfig(
        image_size=embedding.image_size,
        patch_size=embedding.patch_size,
        channels=channels,
        num_layers=len(blocks),
        hidden_size=len(embedding.linear.bias),
        num_heads=first.attention.heads,
        head_dim=first.attention.head_dim,
        mlp_dim=len(first.dense1.bias),
        mlp_activation=first.activation,
        mlp_out_activation=first.out_activation,
        qk_norm=first.attention.query_norm is not None,
        pre_norm=pre_norm is not None,
        fc_norm=head.fc_norm,
        norm_epsilon=(head.norm or first.norm1).epsilon,
        class_token=prefix > 0,
        num_register_tokens=max(prefix - 1, 0),
        pooling=head.pooling,
        include_top=head.linear is not None,
        classes=1000 if head.linear is None else len(head.linear.bias),
        preprocessing=Preprocessing(mean=(0.5,) * channels, std=(0.5,) * channels),
    )
    weights = Weights(
        config=config,
        task="features" if head.pooling is None else "classify",
        scale=None,
        offset=None,
        embedding=embedding.linear,
        patch_norms=None,
        prefix=embedding.prefix,
        positions=embedding.positions,
        pre_norm=pre_norm,
        blocks=blocks,
        norm=head.norm,
        pool=None if head.pool is None else head.pool.weights,
        unrotate=None,
        pre_logits=None,
        heads=[] if head.linear is None else [head.linear],
    )
    tail = None if head.end == graph.output else (head.end, graph.output)
    scale = read_input_scale(graph)
    return RecognisedViT(
        *(weights, front, tail, head.features),
        *(embedding.layout, scale, _differences(weights)),
    )


def _differences(weights: Weights) -> tuple[str, ...]:
    """What a configuration has no words for."""
    config, blocks, found = weights.config, weights.blocks, []
    if odd := {b.activation for b in blocks} - {config.mlp_activation}:
        found.append(f"MLP activation {', '.join(sorted(odd))}")
    if {b.out_activation for b in blocks} != {config.mlp_out_activation}:
        found.append("different activations behind the MLP")
    if weights.pool is not None and weights.pool[-1] != config.mlp_activation:
        found.append(f"MLP activation {weights.pool[-1]} in the pooling")
    if weights.norm is None:
        found.append("no last norm")
    norms = [n for b in blocks for n in (b.norm1, b.norm2)]
    norms += [n for b in blocks for n in (b.attention.query_norm, b.attention.key_norm)]
    norms = [n for n in (*norms, weights.pre_norm, weights.norm) if n is not None]
    if any(not np.isclose(n.epsilon, config.norm_epsilon, rtol=1e-2) for n in norms):
        found.append("norms of several epsilons")
    if not all(norm.centred for norm in norms):
        found.append("RMS norm")
    sizes = {
        (b.attention.heads, b.attention.head_dim, len(b.dense1.bias)) for b in blocks
    }
    if len(sizes) > 1:
        found.append("blocks of several sizes")
    if len({b.attention.query_norm is None for b in blocks}) > 1:
        found.append("norms of queries and keys in some blocks")
    return tuple(found)
