"""Run folders: checkpoints, environment, model card, release."""
