"""Feedback: outcomes as people, services and files tell them."""
