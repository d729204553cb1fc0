"""Weights of published code."""
