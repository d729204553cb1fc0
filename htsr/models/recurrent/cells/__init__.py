"""Recurrent cells over maps."""
