"""Release: the gate, the registry of policies, and the way back."""
