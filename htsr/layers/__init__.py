"""Blocks without time: each works on single frames or single vectors."""
