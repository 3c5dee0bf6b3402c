"""Imports torchvision's GoogLeNet and VGGs, and the small CIFAR-10 network of PyTorch's tutorial, as Network folders.

    python -m nd_jax.networks.importers.torchvision googlenet googlenet-1378be20.pth out/googlenet
    python -m nd_jax.networks.importers.torchvision vgg16 vgg16-397923af.pth out/vgg16 --labels imagenet_classes.txt
    python -m nd_jax.networks.importers.torchvision cifar10 cifar_torchvision.pt out/cifar10

The file is a state dict of `torch.save` in either of its formats (read without PyTorch, nothing in it is run), the same
tensors as .npz, or .safetensors. What the network is shown stays a picture with values 0 ... 1, in true colours: mean
and deviation of the training data are taken off by its first layer. docs/image_networks.md has more.
"""

from __future__ import annotations

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.networks.googlenet import IMAGENET_MEAN, IMAGENET_STD, NAMES, GoogLeNet
from nd_jax.networks.importers import command
from nd_jax.networks.importers.lenet import lenet
from nd_jax.networks.importers.states import read_state
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.vgg import VGG

if TYPE_CHECKING:
    import flax.linen as nn

    from nd_jax.network import Network

SOURCE = "https://github.com/pytorch/vision"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCH_NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}

State = str | pathlib.Path | Mapping[str, Any]


def googlenet(
    weights: State,
    *,
    transform_input: bool = True,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> tuple[GoogLeNet, dict[str, Any]]:
    """A GoogLeNet and its variables; its widths and the number of classes are read off the arrays.

    Args:
      weights: a file of weights or {torchvision's name: array}; auxiliary heads in it are left out.
      transform_input: as torchvision's constructor has it: True for its published weights (whose file does not say
        so), False for a network that was trained without.
      mean: of the pictures it was trained on, per channel; () for a network that takes them as they are.
      std: likewise, their deviation.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or not the weights of a GoogLeNet.
    """
    state, source = _state(weights, "conv1.conv.weight", "GoogLeNet")
    state = {name: array for name, array in state.items() if not name.startswith(("aux1.", "aux2."))}

    def width(block: str) -> int:
        return _array(state, f"{block}.conv.weight", source).shape[0]

    def widths(place: str) -> tuple[int, ...]:
        branches = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
        return tuple(width(f"inception{place}.{branch}") for branch in branches)

    module = GoogLeNet(
        stem=(width("conv1"), width("conv2"), width("conv3")),
        blocks=tuple(widths(place) for place in NAMES),
        classes=_array(state, "fc.weight", source).shape[0],
        transform_input=transform_input,
        mean=tuple(mean),
        std=tuple(std),
    )
    return module, _variables(state, module, (64, 64, 3), source)


def vgg(
    weights: State, *, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> tuple[VGG, dict[str, Any]]:
    """A VGG without batch norm (VGG11, 13, 16, 19, any widths) and its variables; all sizes are read off the arrays.

    Arguments and errors as in `googlenet`.
    """
    state, source = _state(weights, "features.0.weight", "VGG")
    places = sorted(int(name.split(".")[1]) for name in state if name.startswith("features.") and "weight" in name)
    if any(_array(state, f"features.{place}.weight", source).ndim != 4 for place in places):
        raise WeightsFileError(f"{source} is a VGG with batch norm, which is not supported")
    stages: list[list[int]] = [[]]
    for place, following in zip(places, [*places[1:], None], strict=True):
        stages[-1].append(state[f"features.{place}.weight"].shape[0])
        # A convolution and its ReLU take two numbers; a third is the pool that ends a stage.
        if following == place + 3:
            stages.append([])
        elif following not in (place + 2, None):
            raise WeightsFileError(f"{source} is no VGG: features.{following} follows features.{place}")
    heads = sorted(int(name.split(".")[1]) for name in state if name.startswith("classifier.") and "weight" in name)
    if heads != list(range(0, 3 * len(heads), 3)) or not heads:
        raise WeightsFileError(f"{source} is no VGG: its dense layers are classifier.{heads}")
    dense = [_array(state, f"classifier.{place}.weight", source) for place in heads]
    channels, side = stages[-1][-1], round((dense[0].shape[1] / stages[-1][-1]) ** 0.5)
    if side * side * channels != dense[0].shape[1]:
        raise WeightsFileError(f"{source}: classifier.0 takes {dense[0].shape[1]} numbers, no square of {channels}")
    # PyTorch flattens (channel, row, column), our pictures are (row, column, channel).
    kernel = dense[0].reshape(-1, channels, side, side).transpose(0, 2, 3, 1).reshape(dense[0].shape)
    module = VGG(
        stages=tuple(tuple(stage) for stage in stages),
        pooled=(side, side),
        hidden=tuple(array.shape[0] for array in dense[:-1]),
        classes=dense[-1].shape[0],
        mean=tuple(mean),
        std=tuple(std),
    )
    smallest = 2 ** len(stages)
    shape = (smallest, smallest, state["features.0.weight"].shape[1])
    return module, _variables(state | {"classifier.0.weight": kernel}, module, shape, source)


def _state(weights: State, landmark: str, what: str) -> tuple[dict[str, np.ndarray], str]:
    """The tensors under torchvision's own names, and what to call them in a message; a common prefix is cut off."""
    from_file = isinstance(weights, (str, pathlib.Path))
    source = str(weights) if from_file else "the state dict"
    given = read_state(weights) if from_file else {name: np.asarray(array) for name, array in weights.items()}  # type: ignore[arg-type, union-attr]
    prefixes = {name[: -len(landmark)] for name in given if name.endswith(landmark)}
    if len(prefixes) != 1:
        raise WeightsFileError(f"{source} holds no {what}: it has {len(prefixes)} tensors {landmark!r}, not one")
    (prefix,) = prefixes
    return {name.removeprefix(prefix): array for name, array in given.items() if name.startswith(prefix)}, source


def _array(state: Mapping[str, np.ndarray], name: str, source: str) -> np.ndarray:
    if name not in state:
        raise WeightsFileError(f"{source} lacks the tensor {name}")
    return state[name]


def _variables(
    state: Mapping[str, np.ndarray], module: nn.Module, shape: tuple[int, ...], source: str
) -> dict[str, Any]:
    """The tensors in Flax's layouts under the module's names, checked against what the module itself declares."""
    import jax
    import jax.numpy as jnp

    variables: dict[str, Any] = {}
    norms = {name.removesuffix(".running_mean") for name in state if name.endswith(".running_mean")}
    for name, array in state.items():
        layer, _, part = name.rpartition(".")
        if part == "num_batches_tracked":
            continue
        if layer in norms:
            collection, leaf = "batch_stats" if part.startswith("running") else "params", _BATCH_NORM.get(part, part)
        else:
            collection, leaf = "params", "kernel" if part == "weight" else part
        if leaf == "kernel":
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        if array.dtype.kind not in "fV":
            raise WeightsFileError(f"{source}: tensor {name} holds {array.dtype} and no floating-point numbers")
        array = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(array).all():
            raise WeightsFileError(f"{source}: tensor {name} holds something else than finite numbers")
        node = variables.setdefault(collection, {})
        for step in layer.split("."):
            node = node.setdefault(step, {})
        node[leaf] = array
    try:
        wanted = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape))))
    except (TypeError, ValueError) as error:
        raise WeightsFileError(f"{source} does not fit together: {error}") from None
    expected, given = (
        {"/".join(key.key for key in path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}  # type: ignore[attr-defined]
        for tree in (dict(wanted), variables)
    )
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            raise WeightsFileError(
                f"{source}: {name} should have shape {expected.get(name)} and has {given.get(name)} (None: is missing)"
            )
    return variables


def network(
    weights: str | pathlib.Path,
    kind: str | None = None,
    *,
    size: int | None = None,
    labels: Sequence[str] | None = None,
    transform_input: bool = True,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """The classifier in a file as a `nd_jax.Network` with its domain, labels and model card.

    Args:
      weights: .pt, .pth, .npz or .safetensors.
      kind: "googlenet", "vgg16" (any VGG without batch norm) or "cifar10"; None to tell by the names of the tensors.
      size: height and width of the pictures; 224 by default, 32 for "cifar10" (where nothing else fits).
      labels: names of the classes; by default their numbers, and CIFAR-10's own names.
      transform_input: see `googlenet`.
      mean: of the pictures it was trained on, per channel; by default ImageNet's, and 0.5 for "cifar10".
      std: likewise, their deviation.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError, ValueError: unreadable, other weights, another number of labels.
    """
    from nd_jax import domain
    from nd_jax.network import Network
    from nd_jax.runtime import nearest

    kind = kind or kind_of(weights)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of network {kind!r}; {nearest(kind, KINDS)}")
    card = {"name": pathlib.Path(weights).stem, "source": SOURCE, "licence": "that of the file of weights"}
    if kind == "cifar10":
        if size not in (None, 32):
            raise ValueError(f"the CIFAR-10 network takes pictures of 32 x 32 pixels, not of {size} x {size}")
        shift, spread = set(mean or (0.5,)), set(std or (0.5,))
        if len(shift) != 1 or len(spread) != 1:
            raise ValueError("the CIFAR-10 network takes one mean and one deviation for all channels")
        # One mean and one deviation for all channels: the values themselves are a picture of another range.
        (centre,), (width,) = shift, spread
        module: Any
        module, variables = lenet(weights)
        taken = variables["params"]["conv1"]["kernel"].shape[2], variables["params"]["dense1"]["kernel"].shape[0]
        side = ((32 - module.kernel + 1) // 2 - module.kernel + 1) // 2
        if taken != (3, side * side * module.features[1]):
            raise WeightsFileError(
                f"{weights} is a LeNet, but none of CIFAR-10: it takes {taken[0]} channels and its first dense layer "
                f"{taken[1]} numbers, and not 3 and {side * side * module.features[1]}"
            )
        shape, low, high = (32, 32, 3), (0.0 - centre) / width, (1.0 - centre) / width
        card |= {"task": "10 kinds of things in photographs", "data": f"CIFAR-10, values {low:g} ... {high:g}"}
        names = CIFAR10 if labels is None and module.classes == len(CIFAR10) else labels
    else:
        mean, std = mean if mean is not None else IMAGENET_MEAN, std if std is not None else IMAGENET_STD
        if kind == "googlenet":
            module, variables = googlenet(weights, transform_input=transform_input, mean=mean, std=std)
        else:
            module, variables = vgg(weights, mean=mean, std=std)
        shape, low, high = (size or 224, size or 224, 3), 0.0, 1.0
        card |= {"task": f"{module.classes} classes of photographs", "data": "values 0 ... 1, normalised inside"}
        names = labels
    if names is not None and len(names) != module.classes:
        raise ValueError(f"{len(names)} labels for a network of {module.classes} classes")
    return Network(
        module,
        variables,
        input=domain.Image(shape, low, high),
        labels=tuple(names) if names is not None else tuple(map(str, range(module.classes))),
        apply_kwargs={"train": False},
        card=card,
    )


KINDS = ("googlenet", "vgg16", "cifar10")


def kind_of(weights: str | pathlib.Path) -> str:
    """Which of `KINDS` the weights in a file belong to, by the names of the tensors.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or none of them.
    """
    state = read_state(weights)
    for ending, kind in {"inception3a.branch1.conv.weight": "googlenet", "features.0.weight": "vgg16"}.items():
        if any(name.endswith(ending) for name in state):
            return kind
    if sum(name.endswith("weight") for name in state) == 5 and len(state) == 10:
        return "cifar10"
    raise WeightsFileError(
        f"{weights} holds none of {', '.join(KINDS)}: its tensors are {', '.join(list(state)[:4])}..."
    )


def read_labels(path: str | pathlib.Path) -> tuple[str, ...]:
    """Names of classes from a file: one a line, a JSON list, or ImageNet's JSON index {"0": ["n01440764", "tench"]}.

    Raises:
      OSError: no such file.
      ValueError: a JSON file that is neither.
    """
    text = pathlib.Path(path).read_text(encoding="utf-8")
    if pathlib.Path(path).suffix != ".json":
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    found = json.loads(text)
    if isinstance(found, dict):
        if set(found) != {str(number) for number in range(len(found))}:
            raise ValueError(f"{path}: a JSON index of classes has the keys '0' ... '{len(found) - 1}'")
        found = [found[str(number)] for number in range(len(found))]
    if not isinstance(found, list):
        raise ValueError(f"{path} holds neither a list of names nor an index of classes")
    return tuple(str(item[-1] if isinstance(item, list) and item else item) for item in found)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: KIND FILE OUT."""
    parser = command.parser("torchvision", "Import the weights of an image classifier as a Network folder.")
    parser.add_argument("kind", choices=KINDS, help="what it is; vgg16 also reads VGG11, 13 and 19 without batch norm")
    parser.add_argument("file", type=pathlib.Path, help=".pth or .pt of PyTorch, .npz or .safetensors: a state dict")
    parser.add_argument("out", type=pathlib.Path, help="folder to write, for nd_jax.load")
    parser.add_argument("--size", type=int, help="height and width of the pictures, by default 224 (CIFAR-10: 32)")
    parser.add_argument("--labels", type=pathlib.Path, help="names of the classes: one a line, or JSON")
    numbers: Callable[[str], float] = float
    parser.add_argument("--mean", type=numbers, nargs="+", help="of the training pictures per channel, range 0 ... 1")
    parser.add_argument("--std", type=numbers, nargs="+", help="likewise")
    parser.add_argument(
        "--no-transform-input",
        action="store_true",
        help="a GoogLeNet that was trained without torchvision's transform_input; its published weights want it",
    )

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        imported = network(
            options.file,
            options.kind,
            size=options.size,
            labels=None if options.labels is None else read_labels(options.labels),
            transform_input=not options.no_transform_input,
            mean=options.mean,
            std=options.std,
        )
        imported.save(options.out)
        return (f"{options.out}: {imported!r}",)

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
