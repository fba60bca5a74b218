"""Train: SFT and DPO runs of TRL from the same store."""
