"""PhyDNet: a physical cell beside a stack of convolutional LSTMs."""
