"""HTSR, and Clockwork VAE as HTSR without its residual parts."""
