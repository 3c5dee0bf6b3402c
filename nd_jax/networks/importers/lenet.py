"""Imports LeNets of other projects into the "lenet" family: PyTorch state dicts (.pt, .npz) and Keras arrays (.npz).

Known to work: the MNIST LeNets of Quantus (PyTorch and Keras) and the CIFAR-10 network of captum's tutorials.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.lenet import LeNet

if TYPE_CHECKING:
    from nd_jax.network import Network

SOURCE = "https://github.com/understandable-machine-intelligence-lab/Quantus"
_OURS = ("conv1", "conv2", "dense1", "dense2", "dense3")


def lenet(weights: str | pathlib.Path, *, pooling: str | None = None) -> tuple[LeNet, dict[str, Any]]:
    """A LeNet and its variables from a file of weights.

    Args:
      weights: a .pt or .npz file with two convolutions and three dense layers, in the order of their names' numbers:
        PyTorch ("conv1.weight" OIHW, "fc1.weight" (out, in), channel-first flattening) or Keras ("conv2d_2/kernel:0"
        HWIO, "dense_3/kernel:0" (in, out), channel-last flattening).
      pooling: "max" or "average"; weights do not tell. By default "max" for PyTorch names and "average" for Keras
        names, which is right for the files known to work.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or not the weights of a LeNet.
    """
    state = read_state(weights)
    keras = any(name.endswith("kernel:0") for name in state)
    kernels = _in_order(state, "kernel:0" if keras else "weight", str(weights))
    biases = _in_order(state, "bias:0" if keras else "bias", str(weights))
    if not keras:
        kernels = [_from_torch(kernel) for kernel in kernels]
        # PyTorch flattens (channel, row, column), our pictures are (row, column, channel).
        channels = kernels[1].shape[3]
        side = round((kernels[2].shape[0] / channels) ** 0.5)
        if side * side * channels != kernels[2].shape[0]:
            raise WeightsFileError(
                f"{weights}: the first dense layer takes {kernels[2].shape[0]} numbers, no square map"
            )
        first = kernels[2].reshape(channels, side, side, -1)
        kernels[2] = first.transpose(1, 2, 0, 3).reshape(kernels[2].shape)
    module = LeNet(
        features=(kernels[0].shape[3], kernels[1].shape[3]),
        kernel=kernels[0].shape[0],
        pooling=pooling or ("average" if keras else "max"),
        hidden=(kernels[2].shape[1], kernels[3].shape[1]),
        classes=kernels[4].shape[1],
    )
    params = {
        name: {"kernel": np.ascontiguousarray(kernel, np.float32), "bias": np.ascontiguousarray(bias, np.float32)}
        for name, kernel, bias in zip(_OURS, kernels, biases, strict=True)
    }
    return module, {"params": params}


def channels_of(state: Mapping[str, np.ndarray]) -> int | None:
    """Channels of the pictures that a LeNet takes; None for tensors, {name: array}, that are not of a LeNet."""
    keras = any(name.endswith("kernel:0") for name in state)
    try:
        first = _in_order(state, "kernel:0" if keras else "weight", "the state dict")[0]
        _in_order(state, "bias:0" if keras else "bias", "the state dict")
    except WeightsFileError:
        return None
    return int(first.shape[2 if keras else 1]) if len(state) == 10 else None


def network(weights: str | pathlib.Path, *, labels: Sequence[str] | None = None, high: float | None = None) -> Network:
    """A LeNet of MNIST's digits in a file as a `nd_jax.Network` with its model card.

    Args:
      weights: as in `lenet`, of a network that takes pictures of 28 x 28 pixels in one channel.
      labels: names of the classes; by default their numbers.
      high: what white is, black is 0; by default what the files known to work were trained with: 1 for PyTorch names,
        255 for Keras names.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError, ValueError: unreadable, other weights, another number of labels.
    """
    from nd_jax import domain
    from nd_jax.network import Network

    module, variables = lenet(weights)
    channels, side = variables["params"]["conv1"]["kernel"].shape[2], 28
    for _ in module.features:
        side = (side - module.kernel + 1) // 2
    flat = variables["params"]["dense1"]["kernel"].shape[0]
    if channels != 1 or flat != side * side * module.features[1]:
        raise WeightsFileError(
            f"{weights} is a LeNet, but none of MNIST: it takes {channels} channels and its first dense layer {flat} "
            f"numbers, and not 1 and {side * side * module.features[1]}"
        )
    if labels is not None and len(labels) != module.classes:
        raise ValueError(f"{len(labels)} labels for a network of {module.classes} classes")
    white = (255.0 if module.pooling == "average" else 1.0) if high is None else high
    return Network(
        module,
        variables,
        input=domain.Image((28, 28, 1), 0.0, white),
        labels=tuple(labels) if labels is not None else tuple(map(str, range(module.classes))),
        apply_kwargs={"train": False},
        card={
            "name": pathlib.Path(weights).stem,
            "task": "which digit is written",
            "data": f"MNIST, values 0 ... {white:g}",
            "source": SOURCE,
            "licence": "that of the file of weights",
        },
    )


def _from_torch(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T


def _in_order(state: Mapping[str, np.ndarray], ending: str, source: str) -> list[np.ndarray]:
    """The tensors of one kind: convolutions first, then dense layers, by the numbers in their names."""

    def place(name: str) -> tuple[bool, list[int]]:
        return not name.startswith("conv"), [int(number) for number in re.findall(r"\d+", name)]

    names = sorted((name for name in state if name.endswith(ending)), key=place)
    ranks = [state[name].ndim for name in names]
    if len(names) != 5 or (ranks != [4, 4, 2, 2, 2] and set(ranks) != {1}):
        raise WeightsFileError(f"{source} is no LeNet: its tensors {ending!r} have the ranks {ranks}")
    return [state[name] for name in names]
