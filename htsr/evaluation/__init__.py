"""Long-horizon evaluation."""
