"""The gateway's pure part: the bytes of a request to a model and of its answer, as an exchange."""
