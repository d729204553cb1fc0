"""SimVP: convolutions between frames and maps, and a translator of all maps at once; TAU is one of its translators."""
