"""Readers of weight files, none of which runs anything of the file."""
