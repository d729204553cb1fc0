"""Every model at a tiny size: a new one needs a row here, and all tests of what models keep to run for it."""

RECURRENT = {"name": "recurrent", "frame_shape": (16, 24, 2), "patch_size": 2, "filters": [4, 4], "context": 3}
MOVING = {**RECURRENT, "embed": False, "layer_norm": False, "time_reversed": False}
ROWS = {
    "htsr": {"name": "htsr", "stoch": 4, "deter": 8, "units": 8, "dense_layers": 1, "channels_mult": 0.125}
    | {"temporal_factor": 2, "frame_shape": (64, 64, 1)},
    "cms_lstm": {**RECURRENT, "cell": "cms_lstm"},
    "conv_lstm": {**RECURRENT, "cell": "conv_lstm", "embed": False, "layer_norm": False},
    "st_lstm": {**RECURRENT, "cell": "st_lstm", "ce": 2, "se": [2]},
    "mixed precision": {**RECURRENT, "cell": "cms_lstm", "filters": [4], "dtype": "mixed_bfloat16"},
    "sa_conv_lstm": {**RECURRENT, "cell": "sa_conv_lstm", "key_filters": 2, "se": [1]},
    "lmc_memory": {"name": "lmc_memory", "frame_shape": (16, 32, 2), "filters": 4, "layers": 2, "slots": 5}
    | {"context": 9, "long_frames": 9, "warmup_steps": 0},
    "motionrnn": {**MOVING, "cell": "motionrnn"},
    "gmg": {**MOVING, "cell": "gmg", "key_filters": 2},
    "gmg with blocks": {**MOVING, "cell": "gmg", "trend_decay": "step", "ce": 1, "se": [2], "dtype": "mixed_bfloat16"},
}
