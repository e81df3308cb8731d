"""The inference graph of an exported model, built from the trained one."""
