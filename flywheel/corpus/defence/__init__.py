"""Defence: each version is examined before it may be trained on."""
