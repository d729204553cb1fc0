"""Published weights become runs that give the published outputs; what does not fit is refused in one line."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch_writer
import yaml
from command import run

import htsr
from htsr.errors import InputError
from htsr.models import build_model
from htsr.models.simvp.translators import TRANSLATORS
from htsr.published import simvp
from htsr.published.readers.tensors import Contents, Tensor
from htsr.published.sources import SOURCES
from htsr.runs import checkpoints
from htsr.runs.card import write_card

pytestmark = pytest.mark.usefixtures("plain_graphs")
ROOT = Path(htsr.__file__).parents[1]
DATA = Path(__file__).parents[1] / "fixtures"
ORIGINAL_CONFIG = {
    "dataset": "mmnist", "channels": 1, "seq_len": 36, "batch_size": 2, "lr": 1e-4, "clip_grad_norm_by": 10000,
    "open_loop_ctx": 36, "eval_seq_len": 72, "tmp_abs_factor": 6, "dec_stddev": 1.0, "cell_min_stddev": 1e-4,
    "cell_mean_only": True, "cell_reset_state": False, "channels_mult": 0.125, "beta": None, "free_nats": None,
    "kl_grad_post_perc": None, "use_obs": True,
}  # fmt: skip
SIZED = ("model.frame_shape=[32,32,1]",)
TORCH = {
    "cms_lstm": ("cmslstm_small", ()),
    "conv_lstm": ("convlstm_small", SIZED),
    "predrnn": ("predrnn_small", SIZED),
    "predrnnpp": ("predrnnpp_small", SIZED),
    "predrnnv2": ("predrnnv2_small", SIZED),
    "mim": ("mim_small", ()),
    "mau": ("mau_small", ()),
    "swin_lstm": ("swinlstm_small", ("model.context=3",)),
    "phydnet": ("phydnet_small", ("model.frame_shape=[32,32,2]", "model.patch_size=4", "model.context=4")),
    "simvp": ("simvp_gsta", ()),
    "wast": ("wast_small", ()),
    "ddpae": ("ddpae_small", ("model.context=3",)),
    "e3d_lstm": ("e3d_lstm_small", ()),
    "fc_lstm": ("fclstm_small", ("model.frame_shape=[16,16,1]", "model.context=4")),
    "crevnet": ("crevnet_small", ("model.frame_shape=[16,16,1]",)),
    "pde_driven": ("pde_driven", ()),
    "motionrnn": ("motionrnn_small", (*SIZED, "model.context=3")),
    "gmg": ("gmg_tiny", ("model.frame_shape=[16,24,2]", "model.context=3")),
    "lmc_memory": ("lmc_tiny", (*SIZED, "model.long_frames=12")),
}

ROLLOUTS = {"swin_lstm": ("x", "out_long"), "simvp": ("x", "out_long"), "phydnet": ("x", "out"), "wast": ("x", "out")}
ROLLOUTS |= {"ddpae": ("x", "out"), "pde_driven": ("cond", "out_long")}  # the latter of the first clip
READ = {"ddpae": 3, "pde_driven": 3}  # frames, at the beginning of what is predicted, that were read


def arrays_of(name: str, prefix: str = "") -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}.npz") as file:
        return {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}


def weights(source: str) -> dict[str, np.ndarray]:
    """Of a source, under its names."""
    name = TORCH[source][0]
    return {key.split("/", 1)[1]: a for key, a in arrays_of(name).items() if key.startswith(("sd/", "var/"))}


def torch_file(source: str, path: Path) -> Path:
    return torch_writer.save(path, weights(source))


def checkpoint(name: str, folder: Path, settings: dict | None = None, drop: str = "") -> Path:
    """A checkpoint of TensorFlow 1, with the original's config above it: its folder."""
    arrays = arrays_of(name)
    variables = {key.removeprefix("var/"): a for key, a in arrays.items() if key.startswith("var/")}
    variables |= {key.removeprefix("opt/"): a for key, a in arrays.items() if key.startswith("opt/")}
    variables |= {"step": arrays["step"].astype(np.int32), "optimizer/Adam/iter": arrays["step"].astype(np.int64)}
    variables = {key: a for key, a in variables.items() if not drop or drop not in key}
    (folder / "model").mkdir(parents=True)
    (folder / "config.yml").write_text(yaml.safe_dump({**ORIGINAL_CONFIG, **(settings or {})}), encoding="utf-8")
    save_tf1(variables, folder / "model" / "model.ckpt")
    return folder / "model"


def save_tf1(variables: dict[str, np.ndarray], prefix: Path) -> None:
    """As the Saver of TensorFlow 1."""
    keys = sorted(variables)
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=keys,
        shape_and_slices=[""] * len(keys),
        tensors=[tf.constant(variables[key]) for key in keys],
    )


def rollout_and_truth(source: str, model) -> tuple[np.ndarray, np.ndarray, float]:
    """A rollout of the fixture's context, what the original gave, and the parity tests' tolerance."""
    arrays = arrays_of(TORCH[source][0])
    if source in ("gmg", "motionrnn"):
        clip = np.moveaxis(arrays["raw_frames_NTCHW"], 2, -1)[:1]
        want = np.moveaxis(arrays["pred_NTCHW_b1_s0"], 2, -1)
        return model.rollout(clip[:, :3], 3)[0], want, 1e-5 * np.abs(want).max()
    if source in ROLLOUTS:
        clip, want = (np.moveaxis(arrays[key], 2, -1) for key in ROLLOUTS[source])
        clip, want = clip[: len(want), : model.context], want[:, READ.get(source, 0) :]
        return model.rollout(clip, want.shape[1], noise="mean")[0], want, 1e-4 * max(1, np.abs(want).max())
    if source == "fc_lstm":
        clip, want = (arrays[key].reshape(2, -1, 16, 16, 1) for key in ("x", "out_paper_free"))
        return model.rollout(clip, 3)[0], want, 1e-5
    if source == "crevnet":
        clip, want = np.moveaxis(arrays["frames"], 2, -1), arrays["out_rollout_npast4"].transpose(0, 1, 3, 4, 5, 2)
        return model.rollout(clip[:, :6], 3)[0], want[:, :, -1], 1e-5
    if source == "lmc_memory":
        clip, want = arrays["frames_NTCHW"].transpose(0, 1, 3, 4, 2), arrays["phase2/out"].transpose(0, 1, 3, 4, 2)
        return model.rollout(clip[:, :10], 5)[0], want, 2e-6 * np.abs(want).max()
    patches = arrays["ar_out_patch"].transpose(0, 1, 3, 4, 2) if source == "cms_lstm" else arrays["ar_out"]
    if source == "mau":
        patches = np.moveaxis(patches, 2, -1)
    want = model.frames(tf.constant(np.moveaxis(patches[:, 9:], 1, 0))).numpy()
    clip = arrays["x"].transpose(0, 1, 3, 4, 2)
    return model.rollout(clip[:, :10], 10)[0], want, 2e-3 if source in ("cms_lstm", "predrnnpp") else 5e-5


# ---- the published outputs


@pytest.mark.parametrize("source", TORCH)
def test_imported_models_give_the_published_outputs(source, tmp_path):
    run = htsr.import_weights(source, torch_file(source, tmp_path / "w.pt"), tmp_path / "run", None, TORCH[source][1])
    got, want, tolerance = rollout_and_truth(source, htsr.load_model(run))
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance)
    record = json.loads((run / "imported.json").read_text())
    assert record["source"] == source
    assert record["files"][0]["sha256"] == checkpoints._sha256(tmp_path / "w.pt")
    assert {name for names in record["variables"].values() for name in names} == set(weights(source))
    assert checkpoints.read_manifest(run / "model")["step"] == 0


def test_what_else_st_resnet_knows(tmp_path):
    """Numbers beside the frames are read, too, where they are given."""
    arrays = arrays_of("stresnet_small")
    file = torch_writer.save(tmp_path / "w.pt", arrays_of("stresnet_small", "var/"))
    run = htsr.import_weights("st_resnet", file, tmp_path / "run", None, ["model.day=5", "model.week=7"])
    frames = np.zeros((3, 7, 16, 16, 2), "f4")
    for back, key, first in (
        (1, "closeness", 0),
        (2, "closeness", 2),
        (3, "closeness", 4),
        (5, "period", 0),
        (7, "trend", 0),
    ):
        frames[:, -back] = 0.5 * (np.moveaxis(arrays[key][:, first : first + 2], 1, -1) + 1)
    got = htsr.load_model(run).predict_block(tf.constant(frames), tf.constant(arrays["external"]))
    np.testing.assert_allclose(2 * got[:, 0] - 1, np.moveaxis(arrays["out"], 1, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["htsr", "cwvae"])
def test_imported_clockwork_models(name, tmp_path):
    run = htsr.import_weights(name, checkpoint(f"{name}_tiny", tmp_path / "theirs"), tmp_path / "run")
    arrays = arrays_of(f"{name}_tiny")
    context = arrays["obs72"].astype(np.float32)[:, :36] / 255
    got = htsr.load_model(run).rollout(context, 9, noise="mean")[0]
    np.testing.assert_allclose(got, arrays["open45/prior_multistep"], rtol=0, atol=1e-5)
    config = yaml.safe_load((run / "config.yml").read_text())
    assert config["eval"] | {"context": 36, "horizon": 36, "noise": "mean"} == config["eval"]
    assert config["data"]["name"] == "moving_mnist"
    assert config["train"]["learning_rate"] == 1e-4


@pytest.mark.parametrize("name", TRANSLATORS)
def test_translators_are_read_off_the_weights(name):
    """With their sizes, and TAU's loss."""
    arrays = arrays_of(f"simvp_{name}", "var/")
    contents = Contents({key: Tensor(a.shape, "float32", a.copy) for key, a in arrays.items()}, (), {}, {}, ("w.pt",))
    found = simvp.infer(contents, {})
    assert found.pop("translator") == name
    assert found.pop("translator.mlp_ratio", 8) == 8
    sizes = {"filters": 4, "stages": 4, "context": 4, "translator.filters": 32, "translator.depth": 3}
    assert found == sizes
    guessed = simvp.guess(contents, {**found, "translator": name})
    assert guessed == {"frame_shape": [32, 32, 2], **({"divergence": 0.1} if name == "tau" else {})}


def test_swin_lstm_b(tmp_path):
    """Its names; blocks, heads, windows and widths are read off the weights."""
    parts = {"Downsample.patch_embed": "ST.patch_embed", "Downsample.layers.1": "ST.layer"}
    parts |= {"Upsample.Unembed": "ST.patch_inflated"}
    ours = {}
    for name, array in weights("swin_lstm").items():
        for theirs, part in parts.items():
            if name.startswith(theirs):
                wide = [2 * n if n == 8 and "layers" not in name else n for n in array.shape]
                ours[name.replace(theirs, part)] = np.resize(array, wide)
    file = torch_writer.save(tmp_path / "w.pt", ours)
    run = htsr.import_weights("swin_lstm_b", file, tmp_path / "run", None, ["model.frame_shape=[16,16,1]"])
    model = yaml.safe_load((run / "config.yml").read_text())["model"]
    assert [model[key] for key in ("filters", "depths", "heads", "window")] == [16, [4], [4], 4]
    assert htsr.load_model(run).rollout(np.zeros((1, 2, 16, 16, 1), "f4"), 2).std() > 0


def test_pde_driven_of_either_form(tmp_path):
    """Sizes, skips and frames are read off names and shapes."""
    sizes = {"context": 2, "filters": 3, "static_units": 5, "dynamic_units": 4, "hidden": 6}
    for form, shape, skips in (("vgg", (8, 16, 2), False), ("dcgan", (32, 16, 3), True)):
        model = build_model("pde_driven", frame_shape=shape, form=form, skips=skips, **sizes, blocks=2)
        arrays = {}
        for variable, recipe in SOURCES["pde_driven"].pairs(model):
            value, axes = variable.numpy(), (3, 2, 0, 1) if len(variable.shape) == 4 else (1, 0)
            value = value if len(variable.shape) == 1 else value.transpose(axes)
            dense = value.ndim == 4 and recipe.names[0].endswith("last_op.1.weight")
            arrays[recipe.names[0]] = value.reshape(len(value), -1) if dense else value
        run = tmp_path / f"{form}{skips}"
        htsr.import_weights("pde_driven", torch_writer.save(tmp_path / "w.pt", arrays), run)
        found = htsr.load_model(run)
        assert (found.frame_shape, found.sigmoid) == (shape, form == "dcgan")
        for got, want in zip(found.weights, model.weights, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=want.path)


def test_crevnet_of_single_frames(tmp_path):
    """Its kernels have two axes; stages, blocks and layers are read off the weights."""
    model = build_model("crevnet", frame_shape=(16, 24, 3), window=1, blocks=[1, 2, 3], layers=2)
    arrays = {}
    for variable, recipe in SOURCES["crevnet"].pairs(model):
        value = variable.numpy() if len(variable.shape) == 1 else variable.numpy()[0].transpose(3, 2, 0, 1)
        arrays |= zip(recipe.names, np.split(value, len(recipe.names)), strict=True)
    file = torch_writer.save(tmp_path / "w.pt", arrays)
    run = htsr.import_weights("crevnet", file, tmp_path / "run", None, ["model.frame_shape=[16,24,3]"])
    for got, want in zip(htsr.load_model(run).weights, model.weights, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=want.path)


def test_adams_slots_of_the_original(tmp_path):
    """Training goes on as the original's would: one step on its clip gives the weights that it got."""
    run = htsr.import_weights("htsr", checkpoint("htsr_tiny", tmp_path / "theirs"), tmp_path / "run")
    step, arrays, _ = checkpoints.load(run / "model")
    assert step == 2
    model = htsr.load_model(run)
    adam = keras.optimizers.Adam(1e-4, epsilon=1e-4, name="adam")
    adam.build(model.trainable_variables)
    checkpoints.assign_model(adam, arrays, "optimizer")
    assert int(adam.iterations) == 2
    truth = arrays_of("htsr_tiny")
    pairs = SOURCES["htsr"].pairs(model)
    adam.apply([truth[f"grad/{recipe.names[0]}"] for _, recipe in pairs], [variable for variable, _ in pairs])
    for variable, recipe in pairs:
        want, before = truth[f"after1/{recipe.names[0]}"], truth[f"var/{recipe.names[0]}"]
        np.testing.assert_allclose(variable.numpy(), want, rtol=0, atol=0.05 * np.abs(want - before).max() + 1e-7)


def test_a_checkpoint_without_slots(tmp_path):
    folder = checkpoint("cwvae_tiny", tmp_path / "theirs", drop="optimizer/")
    run = htsr.import_weights("cwvae", folder.parent, tmp_path / "run")  # the folder of the training
    assert checkpoints.load(run / "model")[0] == 0
    assert "Adam starts anew" in (run / "model.md").read_text()


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("htsr", {"levels": 1}),
        ("cwvae", {"levels": 2, "dense_layers": 1, "stoch": 3, "frame_shape": (64, 64, 3)}),
        ("htsr", {"levels": 4, "dense_layers": 2, "dense_units": 7, "deter": 9, "units": 5}),
    ],
)
def test_any_number_of_levels_and_sizes(source, arguments, tmp_path):
    """All is read off the checkpoint, without the original's config."""
    sizes = {"stoch": 4, "deter": 6, "units": 8, "dense_units": 10, "channels_mult": 0.125}
    switches = {key: SOURCES[source].published[key] for key in SOURCES[source].fixed}
    model = build_model("htsr", **{**sizes, **switches, **arguments})
    pairs = SOURCES[source].pairs(model)
    save_tf1({recipe.names[0]: variable.numpy() for variable, recipe in pairs}, tmp_path / "model.ckpt")
    run = htsr.import_weights(source, tmp_path / "model.ckpt.index", tmp_path / "run")
    for got, want in zip(htsr.load_model(run).weights, model.weights, strict=True):
        np.testing.assert_array_equal(got, want, err_msg=want.path)


def test_layer_normalisation_tells_the_size_of_frames(tmp_path):
    arrays = weights("predrnn")
    for key in [key for key in arrays if key.endswith(".0.weight")]:
        for kind in ("weight", "bias"):
            arrays[key.replace(".0.weight", f".1.{kind}")] = np.ones((len(arrays[key]), 8, 6), "f4")
    run = htsr.import_weights("predrnn", torch_writer.save(tmp_path / "w.pt", arrays), tmp_path / "run")
    model = yaml.safe_load((run / "config.yml").read_text())["model"]
    assert (model["frame_shape"], model["layer_norm"]) == ([32, 24, 1], True)
    assert htsr.load_model(run).rollout(np.zeros((1, 2, 32, 24, 1), "f4"), 1).shape == (1, 1, 1, 32, 24, 1)


def test_wrappers_optimisers_and_other_files(tmp_path):
    """The same weights as a Lightning checkpoint, below DataParallel, in safetensors, in the old format."""
    from test_readers import write

    plain = weights("conv_lstm")
    lightning = {
        "global_step": 300,
        "state_dict": {f"model.{key}": a for key, a in plain.items()} | {"loss.scale": np.ones(1, "f4")},
        "optimizer_states": [{"state": {0: {"exp_avg": np.ones(3, "f4")}}}],
    }
    body, header = b"", {}
    for key, a in plain.items():
        header[key] = {"dtype": "F32", "shape": list(a.shape), "data_offsets": [len(body), len(body) + a.nbytes]}
        body += a.tobytes()
    files = [
        torch_writer.save(tmp_path / "a.ckpt", lightning),
        torch_writer.save(tmp_path / "b.pth", {"epoch": 3, "model": {f"module.{key}": a for key, a in plain.items()}}),
        torch_writer.save_legacy(tmp_path / "c.pt", plain),
        write(tmp_path / "d.safetensors", header, body),
        DATA / "convlstm_small.pt",
    ]
    digests = set()
    for i, file in enumerate(files):
        run = htsr.import_weights("conv_lstm", file, tmp_path / f"run{i}", overrides=SIZED)
        digests.add(checkpoints.read_manifest(run / "model")["files"]["state.npz"]["sha256"])
    assert len(digests) == 1
    record = json.loads((tmp_path / "run0" / "imported.json").read_text())
    assert record["counters"] == {"global_step": 300}
    assert record["left_out"] == {"count": 1, "first": ["state_dict/loss.scale"]}


@pytest.mark.parametrize("order", [("model", "model_ema"), ("model_ema", "model")])
def test_which_of_several_sets_of_weights(tmp_path, capsys, order):
    """Whatever their order in the file, the plain ones, and that is said; the others can be asked for."""
    plain = weights("conv_lstm")
    sets = {"model": plain, "model_ema": {key: 2 * a for key, a in plain.items()}}
    file = torch_writer.save(tmp_path / "w.pt", {name: sets[name] for name in order})

    def imported(name, **arguments):
        run = htsr.import_weights("conv_lstm", file, tmp_path / name, overrides=SIZED, **arguments)
        return checkpoints.load(run / "model")[1], (run / "model.md").read_text()

    arrays, card = imported("a")
    assert (
        "holds several sets of weights: model is imported, model_ema not; --weights chooses" in capsys.readouterr().err
    )
    assert "of several sets of weights in the file: `model`, not model_ema" in card
    assert f"in the file and not imported: {len(plain)} (model_ema/" in card
    doubled, _ = imported("b", weights="model_ema")
    for name in arrays:
        np.testing.assert_allclose(doubled[name], 2 * arrays[name], rtol=1e-6)
    with pytest.raises(InputError, match="holds no set of weights 'ema'; did you mean"):
        imported("c", weights="ema")


def test_averages_below_another_prefix(tmp_path, capsys):
    plain = weights("conv_lstm")
    both = {f"ema.{key}": 2 * a for key, a in plain.items()} | {f"net.{key}": a for key, a in plain.items()}
    run = htsr.import_weights(
        "conv_lstm", torch_writer.save(tmp_path / "w.pt", both), tmp_path / "run", overrides=SIZED
    )
    assert json.loads((run / "imported.json").read_text())["weights"] == {"chosen": "net", "others": ["ema"]}
    assert "net is imported, ema not" in capsys.readouterr().err


# ---- the config


def test_arguments_and_where_they_are_from(tmp_path):
    run = htsr.import_weights("gmg", torch_file("gmg", tmp_path / "w.pt"), tmp_path / "run", None, TORCH["gmg"][1])
    model = yaml.safe_load((run / "config.yml").read_text())["model"]
    certain = {"filters": [16, 16, 16], "kernel_size": 5, "layer_norm": False, "patch_size": 2}
    published = {"patch_order": "row_column_channel", "embed": False}
    assert {key: model[key] for key in certain | published} == certain | published
    assert model["cell"] == {"name": "gmg", "offsets": "published", "trend_decay": "batch", "key_filters": 4}
    origins = json.loads((run / "imported.json").read_text())["arguments"]
    assert [origins[key] for key in ("filters", "cell.offsets", "frame_shape", "dtype")] == [
        "the weights", "the published setting", "--set", "the default",
    ]  # fmt: skip


def test_a_config_fills_in_but_does_not_change_the_arithmetic(tmp_path):
    config = ROOT / "configs" / "gmg" / "mmnist.yml"
    settings = ["model.frame_shape=[16,24,2]", "model.patch_size=2"]
    file = torch_file("gmg", tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"model.filters is \[128, 128, 128, 128\] in --config, but the weights have"):
        htsr.import_weights("gmg", file, tmp_path / "run", config, settings)
    text = config.read_text().replace("  filters: [128, 128, 128, 128]\n", "").replace("key_filters: 32, ", "")
    (tmp_path / "own.yml").write_text(text)
    run = htsr.import_weights("gmg", file, tmp_path / "run", tmp_path / "own.yml", settings)
    found = yaml.safe_load((run / "config.yml").read_text())
    assert (found["model"]["cell"]["offsets"], found["train"]["steps"]) == ("published", 375000)
    run = htsr.import_weights(
        "gmg",
        file,
        tmp_path / "set",
        tmp_path / "own.yml",
        [*settings, "model.cell={name: gmg, offsets: bounded, trend_decay: none}"],
    )
    assert yaml.safe_load((run / "config.yml").read_text())["model"]["cell"]["offsets"] == "bounded"
    assert json.loads((run / "imported.json").read_text())["unread"]["count"] == 6  # beta, which only decay reads


# ---- what is refused


def refused(tmp_path, source, file, message, *overrides, config=None):
    with pytest.raises(InputError, match=message) as refusal:
        htsr.import_weights(source, file, tmp_path / "run", config, overrides)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        ("gmg", "cms_lstm", "holds no weights of cms_lstm"),
        ("conv_lstm", "predrnn", "holds no weights of predrnn: .* check --from"),
        ("predrnn", "conv_lstm", r"of conv_lstm with this config: names 2 \(cell_list.0.conv_m.0.weight, .*\) unknown"),
        ("gmg", "motionrnn", r"names 92 \(cell_list.0.attention_layer.layer_k.bias, .*\) unknown"),
        ("lmc_memory", "gmg", "holds no weights of gmg"),
        ("predrnn", "predrnnpp", "holds no weights of predrnnpp"),
        ("predrnnpp", "predrnn", r"missing and 11 \(cell_list.0.conv_c.0.weight, .*\) unknown"),
        ("predrnn", "predrnnv2", "holds no weights of predrnnv2"),
        ("mau", "mim", "holds no weights of mim"),
        ("mim", "e3d_lstm", "holds no weights of e3d_lstm"),
        ("e3d_lstm", "mau", "holds no weights of mau"),
        ("phydnet", "swin_lstm", "holds no weights of swin_lstm"),
        ("swin_lstm", "phydnet", "holds no weights of phydnet"),
        ("swin_lstm", "swin_lstm_b", "holds no weights of swin_lstm_b"),
        ("phydnet", "fc_lstm", "holds no weights of fc_lstm"),
        ("phydnet", "simvp", "holds no weights of simvp"),
        ("simvp", "wast", "holds no weights of wast"),
        ("wast", "st_resnet", "holds no weights of st_resnet"),
        ("fc_lstm", "ddpae", "holds no weights of ddpae"),
        ("phydnet", "crevnet", "holds no weights of crevnet"),
        ("crevnet", "phydnet", "holds no weights of phydnet"),
        ("crevnet", "pde_driven", "holds no weights of pde_driven"),
        ("pde_driven", "crevnet", "holds no weights of crevnet"),
    ],
)
def test_weights_of_another_model(tmp_path, source, given, message):
    refused(tmp_path, given, torch_file(source, tmp_path / "w.pt"), message, *TORCH[source][1])


def test_names_that_are_missing_or_unknown(tmp_path):
    arrays = weights("predrnn")
    del arrays["cell_list.1.conv_last.weight"]
    arrays["cell_list.1.extra"] = np.ones(2, "f4")
    file = torch_writer.save(tmp_path / "w.pt", arrays)
    message = r"names 1 \(cell_list.1.conv_last.weight\) missing and 1 \(cell_list.1.extra\) unknown"
    refused(tmp_path, "predrnn", file, message, *SIZED)


def test_a_model_larger_than_its_file(tmp_path):
    """One small array that implies a huge layer: nothing of that size is ever made."""
    arrays = weights("conv_lstm")
    arrays |= {f"cell_list.{i}.conv_h.0.weight": np.ones((4, 100_000, 1, 1), "f4") for i in (0, 1)}
    file = torch_writer.save(tmp_path / "w.pt", arrays)
    refused(tmp_path, "conv_lstm", file, r"has \d{13,} parameters, but the file has", *SIZED)


def test_tensors_that_share_one_storage(tmp_path):
    """A name may not be a view of what another name has, or a small file could fill the memory."""
    place = max(a.size for a in weights("conv_lstm").values())
    shared = torch_writer.persistent("storage", torch_writer.name("torch", "FloatStorage"), "0", "cpu", place)
    parts = {
        key: torch_writer.tensor(shared, a.shape, [n // 4 for n in a.strides])
        for key, a in weights("conv_lstm").items()
    }
    file = torch_writer.save(tmp_path / "w.pt", parts, **{"0": bytes(4 * place)})
    refused(tmp_path, "conv_lstm", file, r"its tensors are said to have \d+ bytes, but the file has", *SIZED)


def test_shapes_that_do_not_fit_together(tmp_path):
    arrays = weights("conv_lstm")
    name = "cell_list.1.conv_x.0.weight"
    for shape in ((8, 32, 5, 5), (32 * 8 * 25,)):
        file = torch_writer.save(tmp_path / "w.pt", {**arrays, name: arrays[name].reshape(shape)})
        refused(tmp_path, "conv_lstm", file, r"cell_list.1.conv_x.0.weight \[.*cannot become recurrent/cell1", *SIZED)
    file = torch_writer.save(tmp_path / "w.pt", {**arrays, "conv_last.weight": np.ones(128, "f4")})
    refused(tmp_path, "conv_lstm", file, "patch|cannot become", *SIZED)


def test_arguments_refused(tmp_path):
    file = torch_file("predrnn", tmp_path / "w.pt")
    refused(tmp_path, "vgg", file, "source must be one of htsr, cwvae")
    refused(tmp_path, "predrnn", tmp_path / "none.pt", "none.pt is not a file")
    refused(
        tmp_path,
        "predrnn",
        file,
        r"model.filters is \[4, 4\] in --set, but the weights have \[8, 8\]",
        "model.filters=[4,4]",
    )
    refused(tmp_path, "predrnn", file, "16 channels a patch, which patches of 3x3 do not give", "model.patch_size=3")
    shape = "model.frame_shape=[32,32,3]"
    refused(tmp_path, "predrnn", file, "16 channels a patch, which frames of 3 channels do not give", shape)
    refused(tmp_path, "predrnn", file, "what size frames have; add --set model.frame_shape", "model.patch_size=2")
    refused(tmp_path, "predrnn", file, "unknown key 'stpes'; did you mean 'steps'", *SIZED, "train.stpes=5")
    config = ROOT / "configs" / "cms_lstm" / "mmnist.yml"
    message = "model.cell is cms_lstm in --config, but the weights have st_lstm; leave it out"
    refused(tmp_path, "predrnn", file, message, *SIZED, config=config)
    config = ROOT / "configs" / "mmnist.yml"
    refused(tmp_path, "predrnn", file, "--config has model.name htsr, but weights of predrnn", config=config)
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="run exists; choose another folder"):
        htsr.import_weights("predrnn", file, tmp_path / "run")


@pytest.mark.parametrize("part", ["model.ckpt.index", "model.ckpt.data-00000-of-00001"])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.99])
def test_checkpoints_that_are_cut_off(tmp_path, part, share):
    path = checkpoint("cwvae_tiny", tmp_path / "theirs") / part
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refused(tmp_path, "cwvae", path.parent, "damaged or cut off|more than the .* bytes")


def test_checkpoints_refused(tmp_path, monkeypatch):
    folder = checkpoint("cwvae_tiny", tmp_path / "theirs")
    refused(tmp_path, "htsr", folder, r"names 72 \(.*\) missing and 50 \(.*\) unknown; check --from")
    refused(tmp_path, "cwvae", tmp_path, r"holds 0 checkpoints")
    refused(tmp_path, "cwvae", folder / "other.ckpt", "other.ckpt.index does not exist")
    refused(
        tmp_path, "cwvae", folder, r"model.units is 1000000 in --set, but the weights have 16", "model.units=1000000"
    )
    refused(
        tmp_path, "cwvae", folder, "model.temporal_factor must be at least 1|temporal_factor", "model.temporal_factor=0"
    )
    with monkeypatch.context() as patch:
        patch.setattr("htsr.published.readers.tf1.tf.train.load_checkpoint", _HugeReader)
        refused(
            tmp_path, "cwvae", folder, r"has the shape \[50000, 50000\], more than the \d+ bytes of model.ckpt.data"
        )
    with monkeypatch.context() as patch:
        patch.setattr("htsr.published.readers.tf1.tf.train.load_checkpoint", _no_memory)
        refused(tmp_path, "cwvae", folder, "model.ckpt.index is damaged or cut off")
    (folder / "model.ckpt.data-00000-of-00001").unlink()
    refused(tmp_path, "cwvae", folder, "data-00000-of-00001 is missing")


def _no_memory(_):
    """What TensorFlow does with an index whose blocks are said to be larger than memory."""
    raise MemoryError("std::bad_alloc")


class _HugeReader:
    """What TensorFlow makes of an index that promises 10 GB."""

    def __init__(self, prefix):
        self._shapes = {name: [50_000, 50_000] for name in SOURCES["cwvae"].signature}

    def get_variable_to_shape_map(self):
        return self._shapes

    def get_variable_to_dtype_map(self):
        return dict.fromkeys(self._shapes, tf.float32)


def test_a_step_that_cannot_be(tmp_path):
    save_tf1(
        {name: np.ones(1, "f4") for name in SOURCES["cwvae"].signature} | {"step": np.int32(-5)}, tmp_path / "m.ckpt"
    )
    refused(tmp_path, "cwvae", tmp_path / "m.ckpt", "training has done step -5; the file is damaged")


def test_settings_of_the_original_that_are_not_supported(tmp_path):
    folder = checkpoint("cwvae_tiny", tmp_path / "a", {"cell_reset_state": True})
    refused(tmp_path, "cwvae", folder, "models that reset states are not supported")
    folder = checkpoint("cwvae_tiny", tmp_path / "b", {"dec_stddev": "wide"})
    refused(tmp_path, "cwvae", folder, "model.frame_stddev: expected float, received 'wide'")
    shutil.copyfile(tmp_path / "a" / "model" / "model.ckpt.index", tmp_path / "b" / "model" / "other.index")
    refused(tmp_path, "cwvae", tmp_path / "b" / "model", "holds 2 checkpoints")


# ---- the run


def test_script_then_training_goes_on(tmp_path):
    """Imported, trained for a step by ``htsr train``, without Adam's slots and with averages; its card."""
    imported = run(
        "import", "--from", "conv_lstm", "--file", DATA / "convlstm_small.pt",
        "--out", tmp_path / "logs/own", "--set", *SIZED,
    )  # fmt: skip
    assert imported.returncode == 0, imported.stderr
    model = "- model: recurrent conv_lstm, 32,128 parameters, stored as float32, frames of 32x32x1"
    assert imported.stdout.startswith(f"# own\n\n{model}\n")
    folder = tmp_path / "logs" / "own"
    settings = [
        "train.steps=1",
        "train.valid_examples=1",
        "train.valid_horizon=2",
        "data.batch_size=1",
        "train.ema_decay=0.5",
    ]
    trained = run(
        "train", "--config", folder / "config.yml", "--logdir", tmp_path / "logs", "--name", "own",
        *(part for setting in settings for part in ("--set", setting)),
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    before, after = (checkpoints.load(folder / "model", step)[1] for step in (0, 1))
    moved = [np.abs(after[name] - before[name]).max() for name in before]
    assert 0 < max(moved) < 1e-2
    assert np.abs(after["ema/output/kernel"] - before["model/output/kernel"]).max() < 1e-2
    assert "step 1;" in write_card(folder).read_text()


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_script_refuses_in_one_line(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    done = run("import", "--from", "gmg", "--file", tmp_path / "w.pt", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
