"""DDPAE: a few objects, each of one look, and where they move."""
