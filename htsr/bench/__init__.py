"""How fast a config is on this machine, and how much of what the machine can do that is."""
