"""PDE-driven disentanglement: a static and a dynamic code of a clip, of which a residual network moves the second."""
