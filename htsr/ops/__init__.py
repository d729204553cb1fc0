"""Functions without weights that models share."""
