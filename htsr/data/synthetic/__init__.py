"""Generated videos: people in action and walks through mazes."""
