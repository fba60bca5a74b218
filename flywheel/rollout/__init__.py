"""Rollout: episodes and forked trees sampled from a policy."""
