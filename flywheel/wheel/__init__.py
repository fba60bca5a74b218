"""The wheel: one turn from capture to release, stage by stage, each stage found done or brought to its end."""
