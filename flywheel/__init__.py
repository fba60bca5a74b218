"""An agent data flywheel: what agents do becomes what the next agent learns."""
