"""What secrets and personal data look like, and what a workspace does about each kind."""
