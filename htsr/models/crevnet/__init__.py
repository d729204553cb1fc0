"""CrevNet: a reversible autoencoder, and a predictor that keeps half of its maps at a time."""
