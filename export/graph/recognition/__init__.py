"""A plain Vision Transformer, whoever made it, found in a traced float graph."""
