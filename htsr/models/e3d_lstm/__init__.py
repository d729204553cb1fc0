"""E3D-LSTM: recurrence on windows of two frames, which attends to its past."""
