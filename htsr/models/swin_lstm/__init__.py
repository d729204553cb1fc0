"""SwinLSTM: a recurrent cell whose gates are windowed attention."""
