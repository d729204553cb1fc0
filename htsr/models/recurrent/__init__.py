"""Convolutional recurrent predictors: CMS-LSTM, ConvLSTM, PredRNN, SA-ConvLSTM, MotionRNN and GMG."""
