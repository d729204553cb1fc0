"""Video files: finding, decoding, converting, caching and cutting into windows."""
