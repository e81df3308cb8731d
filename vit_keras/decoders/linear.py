"""The decoder "linear": one linear layer from the tokens of a patch to its classes.

As in Segmenter (arXiv 2105.05633, section 3.2) and, with several taps, in DINOv2 (arXiv
2304.07193, section 7.4). Its outputs have the stride of the patches.
"""

from .parts import decoder_head, patch_tokens, to_map


def linear_decoder(taps, config):
    """Return a map (N, h, w, C) of taps, tokens (N, T, D) each."""
    return to_map(decoder_head(config)(patch_tokens(taps, config)), config)
