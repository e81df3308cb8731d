"""The graph that is exported, made from the trained model."""
