"""WaST: blocks of large kernels between a wavelet transform of the clip and its inverse."""
