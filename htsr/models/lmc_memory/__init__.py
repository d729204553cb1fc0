"""LMC-Memory: recalls long-term motion from a learned memory."""
