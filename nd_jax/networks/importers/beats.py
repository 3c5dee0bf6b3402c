"""Imports BEATs (Chen et al. 2022) as a Network folder.

    python -m nd_jax.networks.importers.beats BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt out/beats
    python -m nd_jax.networks.importers.beats weights.npz out/beats --config config.json --seconds 5

The file is one of Microsoft's, {"cfg": ..., "model": ...} (read without PyTorch, nothing in it is run), or a state dict
as .pt, .npz or .safetensors; then the configuration comes from --config, or from `config.json` beside the file.
What comes out are logits: the published code gives their sigmoid.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.networks.beats import BEATs
from nd_jax.networks.importers import command, torch_zip
from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.importers.translation import Translation, read_config, setting

if TYPE_CHECKING:
    from nd_jax.network import Network

SOURCE = "https://github.com/microsoft/unilm/tree/master/beats"
_LANDMARK = "patch_embedding.weight"
# What BEATsConfig itself says where a file says nothing.
_DEFAULTS: dict[str, Any] = {
    "embed_dim": 512,
    "conv_bias": False,
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": False,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.0,
    "encoder_layerdrop": 0.0,
    "dropout_input": 0.0,
    "conv_pos": 128,
    "conv_pos_groups": 16,
    "relative_position_embedding": False,
    "num_buckets": 320,
    "max_distance": 1280,
    "gru_rel_pos": False,
    "finetuned_model": False,
    "predictor_dropout": 0.1,
    "predictor_class": 527,
}
_FIELDS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "patch": ("input_patch_size", int),
    "embed": ("embed_dim", int),
    "patch_bias": ("conv_bias", bool),
    "blocks": ("encoder_layers", int),
    "width": ("encoder_embed_dim", int),
    "hidden": ("encoder_ffn_embed_dim", int),
    "heads": ("encoder_attention_heads", int),
    "activation": ("activation_fn", str),
    "norm_first": ("layer_norm_first", bool),
    "deep_norm": ("deep_norm", bool),
    "dropout": ("dropout", (float, int)),
    "attention_dropout": ("attention_dropout", (float, int)),
    "activation_dropout": ("activation_dropout", (float, int)),
    "block_dropout": ("encoder_layerdrop", (float, int)),
    "input_dropout": ("dropout_input", (float, int)),
    "places": ("conv_pos", int),
    "place_groups": ("conv_pos_groups", int),
    "distances": ("relative_position_embedding", bool),
    "buckets": ("num_buckets", int),
    "farthest": ("max_distance", int),
    "gated": ("gru_rel_pos", bool),
    "head_dropout": ("predictor_dropout", (float, int)),
}


def module_of(config: Mapping[str, Any], source: str = "the configuration") -> BEATs:
    """The untrained network of a configuration, BEATs' own names and defaults.

    Raises:
      WeightsFileError: a setting of another type, or none of the size of patches.
    """
    known = {**_DEFAULTS, **config}
    # Some files have whole numbers for what is yes or no.
    known |= {name: bool(known[name]) for name, kind in _FIELDS.values() if kind is bool and known[name] in (0, 1)}
    values = {field: setting(known, name, kind, source) for field, (name, kind) in _FIELDS.items()}
    tuned = known["finetuned_model"] and setting(known, "predictor_class", int, source)
    return BEATs(classes=int(tuned or 0), **values)


def beats(
    weights: str | pathlib.Path | Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    *,
    head: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[BEATs, dict[str, Any]]:
    """A BEATs and its variables.

    Args:
      weights: a file, or {name: array}.
      config: BEATs' own configuration; by default that of the file, or `config.json` beside it.
      head: weight (classes, width) and bias (classes,) of a linear layer to put on the tokens of a network that has
        none, or in place of its own.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, not the weights of a BEATs, or not those of this configuration.
    """
    module, variables, _, _ = _imported(weights, config, head)
    return module, variables


def _imported(
    weights: str | pathlib.Path | Mapping[str, Any],
    config: Mapping[str, Any] | None,
    head: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[BEATs, dict[str, Any], str, Mapping[Any, Any]]:
    """The network, its variables, what was taken, in words, and the names of classes by their numbers."""
    state, found, names, source = _opened(weights, config)
    if not any(name.endswith(_LANDMARK) for name in state):
        raise WeightsFileError(f"{source} holds no BEATs: it lacks the tensor {_LANDMARK}")
    prefix = next(name for name in state if name.endswith(_LANDMARK)).removesuffix(_LANDMARK)
    inner = {name: array for name, array in state.items() if name.startswith(prefix)}
    module = module_of(found, source)
    if head is None and not module.classes:
        head = _own_head(state, prefix, module.width)
    state = {name.removeprefix(prefix): array for name, array in inner.items()}
    if head is not None:
        module = module.clone(classes=int(np.shape(head[0])[0]))
        state |= {"predictor.weight": np.asarray(head[0]), "predictor.bias": np.asarray(head[1])}
    taken = Translation(state, source)
    taken.patches("patches", "patch_embedding", bias=module.patch_bias, turned=True)
    taken.norm("patch_norm", "layer_norm")
    if module.embed != module.width:
        taken.dense("projection", "post_extract_proj")
    _places(taken)
    taken.norm("norm", "encoder.layer_norm")
    if module.distances:
        _distances(taken, module.blocks)
    for index in range(module.blocks):
        _block(taken, module, f"block{index + 1}", f"encoder.layers.{index}")
    if module.classes:
        taken.dense("head", "predictor")
    further = f"encoder.layers.{module.blocks}."
    if any(name.startswith(further) for name in state):
        raise WeightsFileError(f"{source} has more than the {module.blocks} layers of its configuration")
    variables = taken.variables(module, (max(128, module.patch), module.patch, 1))
    return module, variables, taken.summary(), names


def _own_head(state: Mapping[str, np.ndarray], prefix: str, width: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The linear layer `fc` that others (Audio Network Dissection) put on a BEATs: beside it where it has a prefix."""
    outside = prefix.rstrip(".").rpartition(".")[0]
    stem = f"{outside}.fc" if outside else "fc"
    weight, bias = state.get(f"{stem}.weight"), state.get(f"{stem}.bias")
    if weight is None or bias is None or weight.ndim != 2 or weight.shape[1] != width:
        return None
    return weight, bias


def _places(taken: Translation) -> None:
    """The convolution of the places: (out, in, size) -> (size, in, out), its weight normalisation carried out."""
    stem = "encoder.pos_conv.0"
    for scale, direction in (
        (f"{stem}.weight_g", f"{stem}.weight_v"),
        (f"{stem}.parametrizations.weight.original0", f"{stem}.parametrizations.weight.original1"),
    ):
        if taken.has(direction):
            g, v = taken.tensor(scale, 3), taken.tensor(direction, 3)
            if g.shape != (1, 1, v.shape[2]):
                raise WeightsFileError(f"{taken.source}: tensor {scale} has shape {g.shape}, not (1, 1, {v.shape[2]})")
            norm = np.sqrt(np.sum(np.square(v, dtype=np.float64), axis=(0, 1), keepdims=True))
            taken.put("places/conv/kernel", (g * (v / norm)).astype(np.float32).transpose(2, 1, 0), direction)
            break
    else:
        weight = taken.tensor(f"{stem}.weight", 3)
        taken.put("places/conv/kernel", weight.transpose(2, 1, 0), f"{stem}.weight")
    taken.put("places/conv/bias", taken.tensor(f"{stem}.bias", 1), f"{stem}.bias")


def _distances(taken: Translation, blocks: int) -> None:
    """The embedding of distances, which all layers share; a state dict has it once for every layer."""
    names = [f"encoder.layers.{index}.self_attn.relative_attention_bias.weight" for index in range(blocks)]
    first = taken.tensor(names[0], 2)
    for name in names[1:]:
        if taken.has(name) and not np.array_equal(taken.tensor(name, 2), first):
            raise WeightsFileError(f"{taken.source}: {name} differs from layer 0's, and all layers share one")
    taken.put("distances/embedding", first, names[0])


def _block(taken: Translation, module: BEATs, path: str, name: str) -> None:
    for ours, theirs in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}.items():
        taken.dense(f"{path}/attention/{ours}", f"{name}.self_attn.{theirs}")
    if module.gated:
        taken.dense(f"{path}/attention/gates", f"{name}.self_attn.grep_linear")
        scale = taken.tensor(f"{name}.self_attn.grep_a", 4)
        taken.put(f"{path}/attention/scale", scale.reshape(-1), f"{name}.self_attn.grep_a")
    taken.norm(f"{path}/norm1", f"{name}.self_attn_layer_norm")
    taken.norm(f"{path}/norm2", f"{name}.final_layer_norm")
    taken.dense(f"{path}/mlp/hidden", f"{name}.fc1.linear" if module.activation == "glu" else f"{name}.fc1")
    taken.dense(f"{path}/mlp/output", f"{name}.fc2")


def _opened(
    weights: str | pathlib.Path | Mapping[str, Any], config: Mapping[str, Any] | None
) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any], Mapping[Any, Any], str]:
    """The tensors, the configuration, the names of classes by their numbers, and what to call it all."""
    if isinstance(weights, Mapping):
        if config is None:
            raise WeightsFileError("a state dict of a BEATs says nothing of its settings: give its config too")
        return {name: np.asarray(array) for name, array in weights.items()}, config, {}, "the state dict"
    path = pathlib.Path(weights)
    told: Mapping[str, Any] = {}
    if path.is_file() and path.suffix not in (".npz", ".safetensors"):
        state, plain = torch_zip.read_all(path)
        told = plain if isinstance(plain, Mapping) else {}
    else:
        state = read_state(path)
    found = config if config is not None else told.get("cfg")
    if found is None:
        beside = path.with_name("config.json")
        if not beside.is_file():
            raise WeightsFileError(f"{path} says nothing of its settings: give --config, BEATs' own as a JSON file")
        found = read_config(beside)
    if not isinstance(found, Mapping):
        raise WeightsFileError(f"{path}: its cfg is a {type(found).__name__} and no dict of settings")
    names = told.get("label_dict")
    return state, found, names if isinstance(names, Mapping) else {}, str(path)


def network(
    weights: str | pathlib.Path,
    config: Mapping[str, Any] | None = None,
    *,
    seconds: float = 10.0,
    labels: Sequence[str] | None = None,
    head: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Network, tuple[str, ...]]:
    """The BEATs in a file as a `nd_jax.Network` with its front end, labels and card; and what was read, in lines.

    Args:
      weights: a file.
      config: as in `beats`.
      seconds: length of the sounds that the network is shown.
      labels: names of the classes; by default those in the file, else their numbers.
      head: as in `beats`.

    Raises:
      OSError, WeightsFileError: as in `beats`.
      ValueError: another number of labels than classes, or sounds too short for a patch.
    """
    from nd_jax import domain
    from nd_jax.network import Network

    module, variables, summary, names = _imported(weights, config, head)
    if labels is None and head is None and module.classes and set(names) == set(range(module.classes)):
        labels = tuple(str(names[index]) for index in range(module.classes))
    if labels is None:
        labels = tuple(map(str, range(module.classes)))
    if len(labels) != module.classes:
        raise ValueError(f"{len(labels)} labels for a network of {module.classes} classes")
    heard = domain.beats(seconds)
    made = Network(
        module,
        variables,
        input=heard,
        labels=tuple(labels),
        apply_kwargs={"train": False},
        card={
            "name": pathlib.Path(weights).stem,
            "task": f"{module.classes} classes of sound" if module.classes else "features of sound",
            "data": "16 kHz sound",
            "source": SOURCE,
            "licence": "that of the file of weights",
        },
    )
    return made, (
        f"{weights}: BEATs, {module.blocks} blocks of {module.width} x {module.hidden}, {module.heads} heads, "
        + (f"{module.classes} classes" if module.classes else "no head"),
        summary,
        f"input: {heard.samples} samples at 16 kHz, {heard.frames} frames of {heard.shape[0]} bands",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: FILE OUT."""
    from nd_jax.networks.importers.torchvision import read_labels

    parser = command.parser("beats", "Import a BEATs as a Network folder.")
    parser.add_argument("file", type=pathlib.Path, help=".pt of the authors; or .pt, .npz, .safetensors: a state dict")
    parser.add_argument("out", type=pathlib.Path, help="folder to write, for nd_jax.load")
    parser.add_argument("--config", type=pathlib.Path, help="BEATs' configuration as JSON, where the file has none")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the sounds that it is shown")
    parser.add_argument("--labels", type=pathlib.Path, help="names of the classes: one a line, or JSON")

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        imported, report = network(
            options.file,
            None if options.config is None else read_config(options.config),
            seconds=options.seconds,
            labels=None if options.labels is None else read_labels(options.labels),
        )
        imported.save(options.out)
        return (*report, f"{options.out}: {imported!r}")

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
