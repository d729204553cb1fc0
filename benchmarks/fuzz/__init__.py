"""Damaged and hostile inputs for every reader of the package and for its service."""
