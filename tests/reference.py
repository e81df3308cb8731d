"""A Vision Transformer in float64 NumPy, written from the papers' formulas.

It shares no code with `vit_keras` and calls no framework: where the two agree, both
are right. Slow and plain on purpose. Equation numbers are those of arXiv 2010.11929.

Shape letters: N images, T tokens, D width, H heads, d width of one head.
"""

import math

import numpy as np

_erf = np.vectorize(math.erf, otypes=["float64"])


def layer_norm(x, gamma, beta, epsilon):
    """arXiv 1607.06450: zero mean and unit variance over the last axis."""
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gamma + beta


def gelu(x):
    """x times the normal distribution function, arXiv 1606.08415."""
    return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def gelu_tanh(x):
    """The tanh approximation, same paper, section 2."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + np.tanh(inner))


MLP_ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": lambda x: x / (1.0 + np.exp(-1.702 * x)),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    None: lambda x: x,
}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def dense(weights, path, x):
    """Matrix product and, if the layer has one, bias."""
    return x @ weights[f"{path}/kernel"] + weights.get(f"{path}/bias", 0.0)


def norm(weights, path, x, epsilon):
    return layer_norm(x, weights[f"{path}/gamma"], weights[f"{path}/beta"], epsilon)


# Coordinates of patches, temperature, pairs of channels, axis of the first half of the
# angles, and what is added to an index: arXiv 2508.10104, 2303.11331, 2403.13298 and
# 2504.13181.
ROTARY = {
    "dinov3": ("centred", 100.0, "halves", "y", 0.0),
    "eva02": ("index", 10_000.0, "adjacent", "y", 0.0),
    "rope_vit": ("index", 100.0, "adjacent", "x", 0.0),
    "pe": ("index", 10_000.0, "adjacent", "x", 1.0),
}


def turn(x, config):
    """Rotary positions (arXiv 2104.09864) of queries or keys of one head, (N, T, d)."""
    coordinates, temperature, pairs, first, offset = ROTARY[config.rotary]
    temperature = config.rotary_temperature or temperature
    rows = config.image_size[0] // config.patch_size[0]
    columns = config.image_size[1] // config.patch_size[1]
    trained = config.rotary_grid or (rows, columns)
    d, out = x.shape[-1], x.copy()
    for row in range(rows):
        for column in range(columns):
            if coordinates == "centred":
                y = 2.0 * math.pi * (2.0 * (row + 0.5) / rows - 1.0)
                z = 2.0 * math.pi * (2.0 * (column + 0.5) / columns - 1.0)
            else:
                y = (row + offset) * trained[0] / rows
                z = (column + offset) * trained[1] / columns
            token = x.shape[1] - rows * columns + row * columns + column
            for pair in range(d // 2):
                k, second = pair % (d // 4), pair >= d // 4
                position = y if second == (first == "x") else z
                angle = position / temperature ** (4.0 * k / d)
                i, j = 2 * pair, 2 * pair + 1
                if pairs == "halves":
                    i, j = pair, pair + d // 2
                a, b = x[:, token, i], x[:, token, j]
                out[:, token, i] = a * math.cos(angle) - b * math.sin(angle)
                out[:, token, j] = b * math.cos(angle) + a * math.sin(angle)
    return out


def attention(
    weights, path, query, value, num_heads, epsilon=1e-6, config=None, sizes=1.0
):
    """Equations 5 to 8: `(output (N, T, D), scores (N, H, T, S))`.

    With a norm of the queries and keys of each head, and of all heads' outputs, where
    there are such weights, and with the rotary positions of a configuration. Keys (N,
    S) of a size count as often.
    """
    q = dense(weights, f"{path}/query", query)
    k = dense(weights, f"{path}/key", value)
    v = dense(weights, f"{path}/value", value)
    d = q.shape[-1] // num_heads
    outputs, scores = [], []
    for head in range(num_heads):
        part = slice(head * d, (head + 1) * d)
        one_q, one_k = q[..., part], k[..., part]
        if f"{path}/query_norm/gamma" in weights:
            one_q = norm(weights, f"{path}/query_norm", one_q, epsilon)
            one_k = norm(weights, f"{path}/key_norm", one_k, epsilon)
        if config is not None and config.rotary is not None:
            one_q, one_k = turn(one_q, config), turn(one_k, config)
        a = one_q @ one_k.swapaxes(-1, -2) / math.sqrt(d)
        a = softmax(a + np.log(sizes))
        scores.append(a)
        outputs.append(a @ v[..., part])
    joined = np.concatenate(outputs, axis=-1)
    if f"{path}/inner_norm/gamma" in weights:
        joined = norm(weights, f"{path}/inner_norm", joined, epsilon)
    return dense(weights, f"{path}/out", joined), np.stack(scores, axis=1)


def mlp(weights, path, x, activation, last=None, epsilon=1e-6):
    """Two layers; with a gate its activation times the first (arXiv 2002.05202)."""
    hidden = dense(weights, f"{path}/dense1", x)
    if f"{path}/gate/kernel" in weights:
        hidden = hidden * MLP_ACTIVATIONS[activation](dense(weights, f"{path}/gate", x))
    else:
        hidden = MLP_ACTIVATIONS[activation](hidden)
    if f"{path}/inner_norm/gamma" in weights:
        hidden = norm(weights, f"{path}/inner_norm", hidden, epsilon)
    return MLP_ACTIVATIONS[last](dense(weights, f"{path}/dense2", hidden))


def block(
    weights, path, x, num_heads, activation="gelu", epsilon=1e-6, last=None, config=None
):
    """Equations 2 and 3, with LayerScale where there are such weights; with post-norms
    those of Swin V2 (arXiv 2111.09883, section 3.2)."""
    if config is not None and config.post_norm:
        part, more = f"{path}/attention", (num_heads, epsilon, config)
        y, scores = attention(weights, part, x, x, *more)
        x = x + norm(weights, f"{path}/norm1", y, epsilon)
        y = mlp(weights, f"{path}/mlp", x, activation, last, epsilon)
        return x + norm(weights, f"{path}/norm2", y, epsilon), scores
    y = norm(weights, f"{path}/norm1", x, epsilon)
    y, scores = attention(
        weights, f"{path}/attention", y, y, num_heads, epsilon, config
    )
    x = x + y * weights.get(f"{path}/layer_scale1/gamma", 1.0)
    y = norm(weights, f"{path}/norm2", x, epsilon)
    y = mlp(weights, f"{path}/mlp", y, activation, last, epsilon)
    return x + y * weights.get(f"{path}/layer_scale2/gamma", 1.0), scores


def sincos2d(rows, columns, width):
    """arXiv 2205.01580: sin(x), cos(x), sin(y), cos(y), a quarter of D each."""
    quarter = width // 4
    table = np.zeros((rows * columns, width))
    for row in range(rows):
        for column in range(columns):
            for i in range(quarter):
                exponent = i / (quarter - 1) if quarter > 1 else 0.0
                frequency = 10_000.0**-exponent
                token = table[row * columns + column]
                token[i] = math.sin(column * frequency)
                token[quarter + i] = math.cos(column * frequency)
                token[2 * quarter + i] = math.sin(row * frequency)
                token[3 * quarter + i] = math.cos(row * frequency)
    return table


def patches(images, patch_size):
    """(N, H, W, C) to (N, P, p*q*C): patches row by row, pixels likewise."""
    p, q = patch_size
    number, height, width, _ = images.shape
    cut = []
    for top in range(0, height, p):
        for left in range(0, width, q):
            patch = images[:, top : top + p, left : left + q, :]
            cut.append(patch.reshape(number, -1))
    return np.stack(cut, axis=1)


def embed(weights, config, images):
    """Equation 1: images to tokens with positions."""
    x = patches(images, config.patch_size)
    kernel = weights["embedding/kernel"].reshape(-1, config.hidden_size)
    if config.patch_norm:
        x = norm(weights, "embedding/norm_before", x, config.norm_epsilon)
    x = x @ kernel + weights["embedding/bias"]
    if config.patch_norm:
        x = norm(weights, "embedding/norm_after", x, config.norm_epsilon)

    prefix = []
    if config.class_token:
        prefix.append(weights["class_token/token"])
    if config.distillation_token:
        prefix.append(weights["distillation_token/token"])
    if config.num_register_tokens:
        prefix.append(weights["register_tokens/token"])
    prefix = [np.broadcast_to(t, (len(x), *t.shape[1:])) for t in prefix]

    if config.positions == "none":
        return np.concatenate([*prefix, x], axis=1)
    if config.positions == "learned":
        positions = weights["posembed_input/embedding"][0]
    else:
        rows = config.image_size[0] // config.patch_size[0]
        columns = config.image_size[1] // config.patch_size[1]
        positions = sincos2d(rows, columns, config.hidden_size)
        if config.position_prefix:  # the prefix has no place in the image
            length = sum(t.shape[1] for t in prefix)
            zeros = np.zeros((length, config.hidden_size))
            positions = np.concatenate([zeros, positions])
    if config.position_prefix:
        return np.concatenate([*prefix, x], axis=1) + positions
    return np.concatenate([*prefix, x + positions], axis=1)


def merged(weights, path, x, rows, columns):
    """Tokens whose neighbours are merged, and the rows and columns that are left."""
    kernel, bias = weights[f"{path}/kernel"], weights[f"{path}/bias"]
    k, _, width, _ = kernel.shape
    prefix = x.shape[1] - rows * columns
    # What goes from the mean of a token elsewhere than to the mean is taken out.
    kernel = kernel.copy()
    for i, j in np.ndindex(k, k):
        passed = np.ones(width) @ kernel[i, j]
        kernel[i, j] -= (passed - passed.mean()) / width
    tokens = [x[:, p] for p in range(prefix)]
    for r in range(0, rows, k):
        for c in range(0, columns, k):
            y = bias
            for i, j in np.ndindex(k, k):
                place = min(r + i, rows - 1) * columns + min(c + j, columns - 1)
                y = y + x[:, prefix + place] @ kernel[i, j]
            tokens.append(y)
    return np.stack(tokens, axis=1), -(-rows // k), -(-columns // k)


def repeated(config, tokens):
    """Tokens of the last block for every patch."""
    k = int(np.prod([k for _, k in config.token_merging]))
    rows = config.image_size[0] // config.patch_size[0]
    columns = config.image_size[1] // config.patch_size[1]
    prefix, across = config.num_prefix_tokens, -(-columns // k)
    places = [
        prefix + (r // k) * across + c // k for r in range(rows) for c in range(columns)
    ]
    return tokens[:, [*range(prefix), *places]]


def encode(weights, config, images):
    """All tokens after the last norm, and the list of each block's scores."""
    x, scores = embed(weights, config, np.asarray(images, "float64")), []
    if config.pre_norm:
        x = norm(weights, "pre_norm", x, config.norm_epsilon)
    rows = config.image_size[0] // config.patch_size[0]
    columns = config.image_size[1] // config.patch_size[1]
    for i in range(config.num_layers):
        if i in dict(config.token_merging):
            x, rows, columns = merged(weights, f"token_merging_{i}", x, rows, columns)
        x, a = block(
            weights,
            f"encoderblock_{i}",
            x,
            config.num_heads,
            config.mlp_activation,
            config.norm_epsilon,
            config.mlp_out_activation,
            config,
        )
        scores.append(a)
    if config.fc_norm:  # the last norm comes after pooling
        return x, scores
    return norm(weights, "encoder_norm", x, config.norm_epsilon), scores


def matched(keys, number, prefix):
    """Bipartite soft matching of one image's keys (T, d), by ToMe's appendix D, slowly.

    Returns:
        [(place, place of the partner)] of the tokens that leave, the most similar
        first, and the places of the others of even place.
    """
    keys = keys / np.linalg.norm(keys, axis=-1, keepdims=True)
    pairs = []
    for i in range(0, len(keys), 2):
        best, partner = -math.inf, 1
        for j in range(1, len(keys), 2):
            if i >= prefix and j >= prefix and keys[i] @ keys[j] > best:
                best, partner = keys[i] @ keys[j], j
        pairs.append((best, i, partner))
    pairs.sort(key=lambda pair: -pair[0])  # stable: of equal ones the first
    stay = [i for _, i, _ in pairs[number:]]
    return [pair[1:] for pair in pairs[:number]], sorted(stay) if prefix else stay


def fewer(keys, x, sizes, number, prefix):
    """One image's tokens (T, D) and sizes (T,) after merging."""
    if not number:
        return x, sizes
    leave, stay = matched(keys, number, prefix)
    sums, sizes = x * sizes[:, None], sizes.copy()
    for i, j in leave:
        sums[j], sizes[j] = sums[j] + sums[i], sizes[j] + sizes[i]
    order = [*range(prefix), *(i for i in stay if i >= prefix)]
    order += [j for j in range(1, len(x), 2) if j >= prefix]
    return (sums / sizes[:, None])[order], sizes[order]


def tome(weights, config, images):
    """All tokens after the last norm, and their sizes (N, T): ToMe, section 3."""
    x = embed(weights, config, np.asarray(images, "float64"))
    sizes, epsilon = np.ones(x.shape[:2]), config.norm_epsilon
    for i, number in enumerate(config.tome):
        path = f"encoderblock_{i}"
        y = norm(weights, f"{path}/norm1", x, epsilon)
        keys = dense(weights, f"{path}/attention/key", y)
        keys = keys.reshape(*keys.shape[:2], config.num_heads, -1)
        if config.qk_norm:
            keys = norm(weights, f"{path}/attention/key_norm", keys, epsilon)
        more = config.num_heads, epsilon, config, sizes[:, None]
        y, _ = attention(weights, f"{path}/attention", y, y, *more)
        x = x + y * weights.get(f"{path}/layer_scale1/gamma", 1.0)
        prefix = config.num_prefix_tokens
        rows = zip(keys.mean(axis=2), x, sizes, strict=True)
        found = [fewer(*row, number, prefix) for row in rows]
        x, sizes = (np.stack(arrays) for arrays in zip(*found, strict=True))
        y = norm(weights, f"{path}/norm2", x, epsilon)
        y = mlp(weights, f"{path}/mlp", y, config.mlp_activation)
        x = x + y * weights.get(f"{path}/layer_scale2/gamma", 1.0)
    return norm(weights, "encoder_norm", x, epsilon), sizes


def pool(weights, config, tokens, sizes=None):
    if config.pooling == "token":
        return tokens[:, 0]
    if not config.pool_prefix:
        tokens = tokens[:, config.num_prefix_tokens :]  # the patches
    if config.pooling == "gap" and sizes is not None:
        sizes = sizes[:, config.num_prefix_tokens :, None]
        return (tokens * sizes).sum(axis=1) / sizes.sum(axis=1)
    if config.pooling == "gap":
        return tokens.mean(axis=1)
    if config.pooling == "max":
        return tokens.max(axis=1)
    probe = np.broadcast_to(
        weights["pooling/probe"], (len(tokens), 1, config.hidden_size)
    )
    heads = config.pool_heads or config.num_heads
    x, _ = attention(weights, "pooling/attention", probe, tokens, heads)
    y = norm(weights, "pooling/norm", x, config.norm_epsilon)
    return (x + mlp(weights, "pooling/mlp", y, config.mlp_activation))[:, 0]


ACTIVATIONS = {
    "linear": lambda x: x,
    "softmax": softmax,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
}


def forward(weights, config, images, task="classify"):
    """What a model with these weights has to return.

    Arguments:
        weights: dict from weight path, as Keras names it, to array.
        config: object with the fields of `ViTConfig`.
        images: (N, H, W, C), normalised.
        task: "classify" or "features".
    """
    weights = {path: np.asarray(w, "float64") for path, w in weights.items()}
    if config.tome:
        tokens, sizes = tome(weights, config, images)
    else:
        (tokens, _), sizes = encode(weights, config, images), None
    if task == "features" or config.pooling is None:
        return repeated(config, tokens)
    x = pool(weights, config, tokens, sizes)
    if config.fc_norm:
        x = norm(weights, "fc_norm", x, config.norm_epsilon)
    if config.representation_size is not None:
        x = dense(weights, "pre_logits", x)
        x = np.tanh(x) if config.representation_activation == "tanh" else x
    if config.unit_norm:
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
    if not config.include_top:
        return x
    logits = dense(weights, "head", x)
    if config.distillation_token:
        logits = 0.5 * (logits + dense(weights, "head_dist", tokens[:, 1]))
    return ACTIVATIONS[config.activation](logits)


def attention_scores(weights, config, images):
    """(L, N, H, T, T): the weights after the softmax of every block."""
    weights = {path: np.asarray(w, "float64") for path, w in weights.items()}
    return np.stack(encode(weights, config, images)[1])
