"""Convolutional recurrent predictors: CMS-LSTM, ConvLSTM, PredRNN to V2, MIM, MAU, SA-ConvLSTM, MotionRNN, GMG."""
