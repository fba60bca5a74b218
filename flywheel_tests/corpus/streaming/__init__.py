"""Streaming: order, packing, tokens, loaders."""
