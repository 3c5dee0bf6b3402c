"""Imports the MNIST GAN of "Neural Dissection" (GitHub: pyroxenite/audio-neural-dissection) into the DCGAN families.

    python -m nd_jax.networks.importers.neural_dissection mnist-gan-discriminator.pt out/discriminator

reads the original whole-module pickle (see `torch_zip`; no PyTorch, nothing is run) or the same tensors as .npz and
saves a Network folder. The repository states no licence for its weights: use them, do not publish copies.
"""

from __future__ import annotations

import argparse
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.networks.dcgan import Discriminator, Generator
from nd_jax.networks.importers import command
from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError

SOURCE = "https://github.com/pyroxenite/audio-neural-dissection"

_DISCRIMINATOR = {"main.0": "conv1", "main.1": "norm1", "main.4": "conv2", "main.5": "norm2", "main.9": "dense"}
_GENERATOR = {
    "lin_seq.0": "dense",
    "lin_seq.1": "norm0",
    "conv_seq.0": "conv1",
    "conv_seq.1": "norm1",
    "conv_seq.3": "conv2",
    "conv_seq.4": "norm2",
    "conv_seq.6": "conv3",
}


def discriminator(weights: str | pathlib.Path | Mapping[str, Any]) -> tuple[Discriminator, dict[str, Any]]:
    """The discriminator (DCGAN) or critic (WGAN; it ends in a sigmoid too) and its variables.

    Args:
      weights: a .pt or .npz file, or the state dict {PyTorch name: array}.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or not the weights of this network.
    """
    state = _select(weights, _DISCRIMINATOR, "main.0.weight", "discriminator")
    hidden = state["main.0.weight"].shape[0]
    shapes = {
        "main.0.weight": (hidden, 1, 5, 5),
        "main.4.weight": (2 * hidden, hidden, 5, 5),
        "main.9.weight": (1, 2 * hidden * 16),
    }
    _check(state, shapes, {"main.1": hidden, "main.5": 2 * hidden})
    variables = _variables(state, _DISCRIMINATOR)
    # The original flattens (channel, row, column), our pictures are (row, column, channel).
    dense = state["main.9.weight"].reshape(2 * hidden, 4, 4).transpose(1, 2, 0).reshape(-1, 1)
    variables["params"]["dense"] = {"kernel": dense}
    for layer, name in (("main.0", "conv1"), ("main.4", "conv2")):
        variables["params"][name] = {"kernel": state[f"{layer}.weight"].transpose(2, 3, 1, 0)}
    return Discriminator(hidden=hidden), _float32(variables)


def generator(weights: str | pathlib.Path | Mapping[str, Any]) -> tuple[Generator, dict[str, Any]]:
    """The generator and its variables; arguments and errors as in `discriminator`."""
    state = _select(weights, _GENERATOR, "lin_seq.0.weight", "generator")
    features, latent = state["lin_seq.0.weight"].shape
    hidden = features // (4 * 49)
    shapes = {
        "lin_seq.0.weight": (4 * 49 * hidden, latent),
        "conv_seq.0.weight": (4 * hidden, 2 * hidden, 5, 5),
        "conv_seq.3.weight": (2 * hidden, hidden, 5, 5),
        "conv_seq.6.weight": (hidden, 1, 5, 5),
    }
    _check(state, shapes, {"lin_seq.1": features, "conv_seq.1": 2 * hidden, "conv_seq.4": hidden})
    variables = _variables(state, _GENERATOR)
    # Units of the dense layer and of its norm: (channel, row, column) in the original, (row, column, channel) here.
    order = np.arange(features).reshape(4 * hidden, 7, 7).transpose(1, 2, 0).reshape(-1)
    variables["params"]["dense"] = {"kernel": state["lin_seq.0.weight"].T[:, order]}
    for collection in ("params", "batch_stats"):
        norm = variables[collection]["norm0"]
        variables[collection]["norm0"] = {key: array[order] for key, array in norm.items()}
    for layer, name in (("conv_seq.0", "conv1"), ("conv_seq.3", "conv2"), ("conv_seq.6", "conv3")):
        variables["params"][name] = {"kernel": state[f"{layer}.weight"].transpose(2, 3, 0, 1)}
    return Generator(latent=latent, hidden=hidden), _float32(variables)


def _select(weights: Any, layers: Mapping[str, str], landmark: str, what: str) -> dict[str, np.ndarray]:
    """The tensors of this network; a prefix common to all names is cut off."""
    from_file = isinstance(weights, str | pathlib.Path)
    source = str(weights) if from_file else "the state dict"
    state = read_state(weights) if from_file else {name: np.asarray(array) for name, array in weights.items()}
    prefixes = [name[: -len(landmark)] for name in state if name.endswith(landmark)]
    if len(prefixes) != 1:
        raise WeightsFileError(f"{source} holds no Neural Dissection {what}: no tensor {landmark!r} in it")
    cut = {name.removeprefix(prefixes[0]): array for name, array in state.items() if name.startswith(prefixes[0])}
    wanted = {}
    for layer, ours in layers.items():
        parts = ("weight", "bias", "running_mean", "running_var") if ours.startswith("norm") else ("weight",)
        for part in parts:
            if f"{layer}.{part}" not in cut:
                raise WeightsFileError(f"{source} lacks the tensor {layer}.{part} of a Neural Dissection {what}")
            wanted[f"{layer}.{part}"] = cut[f"{layer}.{part}"]
    return wanted


def _check(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], norms: Mapping[str, int]) -> None:
    expected = dict(shapes)
    for layer, size in norms.items():
        expected |= {f"{layer}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise WeightsFileError(f"tensor {name} has shape {state[name].shape}, but this network needs {shape}")
        if state[name].dtype.kind not in "fV" or not np.isfinite(state[name].astype(np.float32)).all():
            raise WeightsFileError(f"tensor {name} holds something else than finite numbers")


def _variables(state: Mapping[str, np.ndarray], layers: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Batch norms in Flax's names; the other layers are filled in by the caller."""
    variables: dict[str, dict[str, Any]] = {"params": {}, "batch_stats": {}}
    for layer, name in layers.items():
        if name.startswith("norm"):
            variables["params"][name] = {"scale": state[f"{layer}.weight"], "bias": state[f"{layer}.bias"]}
            mean, variance = state[f"{layer}.running_mean"], state[f"{layer}.running_var"]
            variables["batch_stats"][name] = {"mean": mean, "var": variance}
    return variables


def _float32(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _float32(value) for name, value in tree.items()}
    return np.ascontiguousarray(tree, dtype=np.float32)


def network(weights: str | pathlib.Path) -> Any:
    """The discriminator in a file as a `nd_jax.Network` with its model card."""
    from nd_jax import domain
    from nd_jax.network import Network

    module, variables = discriminator(weights)
    card = {
        "name": pathlib.Path(weights).stem,
        "task": "real or generated MNIST digit (discriminator of a GAN)",
        "data": "MNIST, values -1 ... 1",
        "source": SOURCE,
        "licence": "none stated by the source: do not redistribute",
    }
    return Network(
        module,
        variables,
        input=domain.Image((28, 28, 1), -1.0, 1.0),
        output=domain.Units(1),
        labels=("real",),
        apply_kwargs={"train": False},
        card=card,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: FILE OUT."""
    parser = command.parser(
        "neural_dissection", "Import a trained Neural Dissection discriminator (.pt or .npz) as a Network folder."
    )
    parser.add_argument(
        "file", type=pathlib.Path, help="mnist-gan-discriminator.pt, mnist-wgan-discriminator.pt or .npz"
    )
    parser.add_argument("out", type=pathlib.Path, help="folder to write, for nd_jax.load")

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        imported = network(options.file)
        imported.save(options.out)
        return (f"{options.out}: {imported.card['name']}; the source states no licence, do not redistribute",)

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
