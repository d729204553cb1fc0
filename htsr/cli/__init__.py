"""The command ``htsr``: one module per sub-command, each with ``add_arguments`` and ``run``."""
