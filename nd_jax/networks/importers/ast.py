"""Imports an Audio Spectrogram Transformer in Hugging Face's format as a Network folder.

    python -m nd_jax.networks.importers.ast ast-finetuned-audioset-10-10-0.4593 out/ast
    python -m nd_jax.networks.importers.ast my-ast-on-esc50 out/ast --seconds 5

The folder is what `save_pretrained` writes: config.json and model.safetensors (in one file, or in several with their
index), or pytorch_model.bin, which is read without PyTorch; the settings of its front end are those of
preprocessor_config.json, or the published ones where there is none. Nothing in it is run.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.networks.ast import AST
from nd_jax.networks.importers import command
from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.importers.translation import Translation, read_config, setting
from nd_jax.networks.transformer import ACTIVATIONS

if TYPE_CHECKING:
    from nd_jax.domain import Fbank
    from nd_jax.network import Network

SOURCE = "https://huggingface.co/MIT/ast-finetuned-audioset-10-10-0.4593"
_MODEL_TYPE = "audio-spectrogram-transformer"
_LANDMARK = "embeddings.patch_embeddings.projection.weight"
_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
_NUMBER = (float, int)
# The names in the files of all versions of transformers so far, and those that its modules have since version 5.
_BLOCK = {
    "attention/query": ("attention.attention.query", "attention.q_proj"),
    "attention/key": ("attention.attention.key", "attention.k_proj"),
    "attention/value": ("attention.attention.value", "attention.v_proj"),
    "attention/output": ("attention.output.dense", "attention.o_proj"),
    "mlp/hidden": ("intermediate.dense", "mlp.fc1"),
    "mlp/output": ("output.dense", "mlp.fc2"),
}


def module_of(config: Mapping[str, Any], classes: int, source: str = "config.json") -> AST:
    """The untrained network of a configuration with Hugging Face's names and defaults.

    Raises:
      WeightsFileError: the configuration of something else, a setting of another type, an unknown activation.
    """
    kind = config.get("model_type", _MODEL_TYPE)
    if kind != _MODEL_TYPE:
        raise WeightsFileError(f"{source} describes a {kind!r}, and not an {_MODEL_TYPE!r}")

    def whole(name: str, default: int) -> int:
        return setting(config, name, int, source, default)

    def number(name: str, default: float) -> float:
        return float(setting(config, name, _NUMBER, source, default))

    activation = setting(config, "hidden_act", str, source, "gelu")
    if activation not in ACTIVATIONS:
        raise WeightsFileError(f"{source}: hidden_act {activation!r} is none of {', '.join(ACTIVATIONS)}")
    patch = whole("patch_size", 16)
    return AST(
        classes=classes,
        width=whole("hidden_size", 768),
        blocks=whole("num_hidden_layers", 12),
        heads=whole("num_attention_heads", 12),
        hidden=whole("intermediate_size", 3072),
        patch=(patch, patch),
        strides=(whole("frequency_stride", 10), whole("time_stride", 10)),
        activation=activation,
        qkv_bias=setting(config, "qkv_bias", bool, source, True),
        epsilon=number("layer_norm_eps", 1e-12),
        dropout=number("hidden_dropout_prob", 0.0),
        attention_dropout=number("attention_probs_dropout_prob", 0.0),
    )


def front_end(
    config: Mapping[str, Any],
    extractor: Mapping[str, Any],
    *,
    seconds: float | None = None,
    source: str = "config.json",
) -> Fbank:
    """The domain of a network's input, from its configuration and that of its ASTFeatureExtractor.

    Args:
      config: what is in config.json.
      extractor: what is in preprocessor_config.json, or {}.
      seconds: how much of the input is sound; see `nd_jax.domain.ast`.
      source: what to call both in a message.

    Raises:
      WeightsFileError: a setting of another type, or two sizes that contradict each other.
    """
    from nd_jax import domain

    frames = setting(config, "max_length", int, source, 1024)
    bands = setting(config, "num_mel_bins", int, source, 128)
    for name, size in (("max_length", frames), ("num_mel_bins", bands)):
        if extractor.get(name, size) != size:
            raise WeightsFileError(f"{source}: {name} is {size}, and {extractor[name]} in preprocessor_config.json")
    mean, std = 0.0, 0.5
    if setting(extractor, "do_normalize", bool, source, True):
        mean = float(setting(extractor, "mean", _NUMBER, source, domain.AST_MEAN))
        std = float(setting(extractor, "std", _NUMBER, source, domain.AST_STD))
    rate = setting(extractor, "sampling_rate", int, source, 16_000)
    try:
        return domain.ast(frames, seconds=seconds, n_mels=bands, sample_rate=rate, mean=mean, std=std)
    except ValueError as error:
        raise WeightsFileError(f"{source}: {error}") from None


def ast(folder: str | pathlib.Path) -> tuple[AST, dict[str, Any]]:
    """An AST and its variables from a folder of Hugging Face's.

    Raises:
      FileNotFoundError: no such folder, or no config.json or weights in it.
      WeightsFileError: unreadable, not the weights of an AST, or not those of its configuration.
    """
    module, variables, _ = _imported(pathlib.Path(folder), read_config(pathlib.Path(folder) / "config.json"))
    return module, variables


def _imported(folder: pathlib.Path, config: Mapping[str, Any]) -> tuple[AST, dict[str, Any], str]:
    state = _state(folder)
    prefixes = {name.removesuffix(_LANDMARK) for name in state if name.endswith(_LANDMARK)}
    if len(prefixes) != 1:
        raise WeightsFileError(f"{folder} holds no AST: it has {len(prefixes)} tensors {_LANDMARK}, not one")
    (body,) = prefixes
    taken = Translation(state, str(folder))
    classes = taken.tensor("classifier.dense.weight", 2).shape[0] if taken.has("classifier.dense.weight") else 0
    module = module_of(config, classes, str(folder / "config.json"))
    taken.patches("patches", f"{body}embeddings.patch_embeddings.projection")
    for ours, theirs in {
        "class_token": "cls_token",
        "distillation_token": "distillation_token",
        "positions": "position_embeddings",
    }.items():
        name = f"{body}embeddings.{theirs}"
        array = taken.tensor(name, 3)
        if array.shape[0] != 1 or (ours != "positions" and array.shape[1] != 1):
            raise WeightsFileError(f"{folder}: tensor {name} has shape {array.shape}")
        taken.put(f"tokens/{ours}", array[0] if ours == "positions" else array[0, 0], name)
    for index in range(module.blocks):
        _block(taken, module, f"block{index + 1}", body, index)
    taken.norm("norm", f"{body}layernorm")
    if classes:
        taken.norm("head_norm", "classifier.layernorm")
        taken.dense("head", "classifier.dense")
    if any(taken.has(f"{stem}.{module.blocks}.layernorm_before.weight") for stem in _stems(body)):
        raise WeightsFileError(f"{folder} has more than the {module.blocks} layers of its configuration")
    frames = setting(config, "max_length", int, str(folder), 1024)
    bands = setting(config, "num_mel_bins", int, str(folder), 128)
    return module, taken.variables(module, (bands, frames, 1)), taken.summary()


def _stems(body: str) -> tuple[str, str]:
    return f"{body}encoder.layer", f"{body}layers"


def _block(taken: Translation, module: AST, path: str, body: str, index: int) -> None:
    stems = [f"{stem}.{index}" for stem in _stems(body)]
    stem = next((name for name in stems if taken.has(f"{name}.layernorm_before.weight")), stems[0])
    taken.norm(f"{path}/norm1", f"{stem}.layernorm_before")
    taken.norm(f"{path}/norm2", f"{stem}.layernorm_after")
    for ours, names in _BLOCK.items():
        name = next((one for one in names if taken.has(f"{stem}.{one}.weight")), names[0])
        bias = module.qkv_bias or ours not in ("attention/query", "attention/key", "attention/value")
        taken.dense(f"{path}/{ours}", f"{stem}.{name}", bias=bias)


def _state(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of a folder, from whichever files they are in."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: an AST is a folder with config.json and {_FILES[0]}")
    found = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"no weights in {folder}: it has none of {', '.join(_FILES)}")
    if found.suffix != ".json":
        return read_state(found)
    index = read_config(found).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise WeightsFileError(f"{found} has no weight_map")
    state: dict[str, np.ndarray] = {}
    for name in sorted({str(name) for name in index.values()}):
        if pathlib.PurePath(name).name != name:
            raise WeightsFileError(f"{found} names the file {name!r}, which is not beside it")
        state |= read_state(folder / name)
    return state


def labels_of(config: Mapping[str, Any], classes: int, source: str = "config.json") -> tuple[str, ...]:
    """The names of the classes: those of id2label, or their numbers where there is none.

    Raises:
      WeightsFileError: names for other classes than there are.
    """
    names = config.get("id2label")
    if not isinstance(names, Mapping):
        return tuple(map(str, range(classes)))
    if set(names) != {str(index) for index in range(classes)}:
        raise WeightsFileError(f"{source}: id2label has {len(names)} names, and the network {classes} classes 0 ...")
    return tuple(str(names[str(index)]) for index in range(classes))


def network(folder: str | pathlib.Path, *, seconds: float | None = None) -> tuple[Network, tuple[str, ...]]:
    """The AST in a folder as a `nd_jax.Network` with its front end, labels and card; and what was read, in lines.

    Args:
      folder: with config.json and the weights.
      seconds: how much of the input is sound, where all sounds are shorter than the input: what is behind it is padded
        as the network knows it. None for all of it (10.24 s in the published network).

    Raises:
      OSError, WeightsFileError: as in `ast`; also for a front end that does not fit.
    """
    from nd_jax.network import Network

    folder = pathlib.Path(folder)
    config = read_config(folder / "config.json")
    module, variables, summary = _imported(folder, config)
    beside = folder / "preprocessor_config.json"
    extractor = read_config(beside) if beside.is_file() else {}
    heard = front_end(config, extractor, seconds=seconds, source=str(folder))
    made = Network(
        module,
        variables,
        input=heard,
        labels=labels_of(config, module.classes, str(folder / "config.json")) if module.classes else (),
        apply_kwargs={"train": False},
        card={
            "name": folder.resolve().name,
            "task": f"{module.classes} classes of sound" if module.classes else "features of sound",
            "data": f"{heard.sample_rate} Hz sound",
            "source": SOURCE,
            "licence": "that of the file of weights",
        },
    )
    return made, (
        f"{folder}: AST, {module.blocks} blocks of {module.width} x {module.hidden}, {module.heads} heads, "
        + (f"{module.classes} classes" if module.classes else "no head"),
        summary,
        f"input: {heard.frames} frames of {heard.shape[0]} bands, of them {heard.samples / heard.sample_rate:.2f} s "
        f"sound at {heard.sample_rate} Hz; front end: {beside.name if extractor else 'the published settings'}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: FOLDER OUT."""
    parser = command.parser("ast", "Import an Audio Spectrogram Transformer of Hugging Face's as a Network folder.")
    parser.add_argument("checkpoint", type=pathlib.Path, help="folder with config.json and model.safetensors")
    parser.add_argument("out", type=pathlib.Path, help="folder to write, for nd_jax.load")
    parser.add_argument("--seconds", type=float, help="length of the sounds, where they are shorter than the input")

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        imported, report = network(options.checkpoint, seconds=options.seconds)
        imported.save(options.out)
        return (*report, f"{options.out}: {imported!r}")

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
