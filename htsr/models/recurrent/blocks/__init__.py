"""Blocks that cells are made of, or that go around them."""
