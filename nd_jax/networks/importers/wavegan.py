"""Imports WaveGAN's TensorFlow variables (GitHub: chrisdonahue/wavegan, MIT) into the WaveGAN families.

    python -m nd_jax.networks.importers.wavegan variables.npz out/generator --sample-rate 16000

reads a .npz with the variables of the generator ("G/z_project/dense/kernel", ...) or of the discriminator
("D/downconv_0/conv1d/kernel", ...) and saves a Network folder. With TensorFlow at hand, such a file is
`np.savez(path, **{name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()})` of a
`tf.train.load_checkpoint`.
"""

from __future__ import annotations

import argparse
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.networks.importers import command
from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.networks.wavegan import STRIDE, Discriminator, Generator

SOURCE = "https://github.com/chrisdonahue/wavegan"

_NORM = {
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}
_LAYER = re.compile(r"(?:^|/)([GD])/(z_project|output|(?:up|down)conv_\d+)/(\w+)/(\w+)$")


def read_variables(weights: str | pathlib.Path | Mapping[str, Any], player: str) -> dict[str, np.ndarray]:
    """The variables of one player, {"z_project/dense/kernel": array}, from a .npz file or a mapping.

    Args:
      weights: names may have anything in front of "G/" or "D/"; optimizer slots and other variables are left out.
      player: "G" or "D".

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or no variable of that player.
    """
    source = "the variables"
    if isinstance(weights, str | pathlib.Path):
        source = str(weights)
        if not pathlib.Path(weights).is_file():
            raise FileNotFoundError(f"no weights file at {weights}")
        try:
            with np.load(weights, allow_pickle=False) as file:
                weights = {name: file[name] for name in file.files if _LAYER.search(name)}
        except Exception as error:
            raise WeightsFileError(f"{source} is not a readable .npz file: {error}") from None
    found = {}
    for name, array in weights.items():
        match = _LAYER.search(name)
        if match and match[1] == player and match[4] in ("kernel", "bias", *_NORM):
            found["/".join(match.groups()[1:])] = np.asarray(array)
    if not found:
        raise WeightsFileError(f"{source} hold no variable of a WaveGAN's {player}, such as {player}/.../kernel")
    return found


def generator(weights: str | pathlib.Path | Mapping[str, Any]) -> tuple[Generator, dict[str, Any]]:
    """The generator and its variables; its sizes are read off the arrays.

    Args:
      weights: a .npz file, or {TensorFlow name: array}.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: unreadable, or not the variables of this network.
    """
    found = read_variables(weights, "G")
    layers = sum(name.startswith("upconv_") and name.endswith("/kernel") for name in found)
    last = _last(found, f"upconv_{layers - 1}")
    nearest = last.ndim == 3
    dim, kernel = (last.shape[1], last.shape[0]) if nearest else (last.shape[3], last.shape[1])
    latent, width = _array(found, "z_project/dense/kernel").shape
    module = Generator(
        samples=width // (dim * 2 ** (layers - 1)) * STRIDE**layers,
        dim=dim,
        latent=latent,
        layers=layers,
        kernel=kernel,
        batch_norm="z_project/batch_normalization/gamma" in found,
        upsample="nearest" if nearest else "zeros",
    )
    names = {f"upconv_{index}": (f"conv{index + 1}", f"norm{index + 1}") for index in range(layers)}
    return module, _variables(found, {"z_project": ("dense", "norm0"), **names}, module, (latent,))


def discriminator(weights: str | pathlib.Path | Mapping[str, Any]) -> tuple[Discriminator, dict[str, Any]]:
    """The discriminator and its variables; arguments and errors as in `generator`."""
    found = read_variables(weights, "D")
    layers = sum(name.startswith("downconv_") and name.endswith("/kernel") for name in found)
    kernel, _, dim = _array(found, "downconv_0/conv1d/kernel").shape
    module = Discriminator(
        dim=dim, layers=layers, kernel=kernel, batch_norm="downconv_1/batch_normalization/gamma" in found
    )
    start = _array(found, "output/dense/kernel").shape[0] // (dim * 2 ** (layers - 1))
    names = {f"downconv_{index}": (f"conv{index + 1}", f"norm{index + 1}") for index in range(layers)}
    return module, _variables(found, {**names, "output": ("dense", "")}, module, (start * STRIDE**layers, 1))


def network(weights: str | pathlib.Path, sample_rate: int = 16000) -> Any:
    """The generator in a file, or the discriminator if there is none, as a `nd_jax.Network` with its model card.

    Args:
      weights: a .npz file.
      sample_rate: of the sound it was trained on, in Hz.

    Raises:
      FileNotFoundError: no such file.
      WeightsFileError: neither is in it.
    """
    from nd_jax import domain
    from nd_jax.network import Network

    module: Generator | Discriminator
    given: domain.Domain
    made: domain.Domain
    try:
        module, variables = generator(weights)
    except WeightsFileError:
        module, variables = discriminator(weights)
        start = variables["params"]["dense"]["kernel"].shape[0] // (module.dim * 2 ** (module.layers - 1))
        given, made = domain.Waveform(start * STRIDE**module.layers, sample_rate), domain.Units(1)
        task = "real or generated sound (discriminator of a WaveGAN)"
    else:
        given, made = domain.Latent(module.latent, "uniform"), domain.Waveform(module.samples, sample_rate)
        task = "sound from a latent, uniform in -1 ... 1 (generator of a WaveGAN)"
    card = {"name": pathlib.Path(weights).stem, "task": task, "source": SOURCE, "licence": "MIT (the code)"}
    return Network(module, variables, input=given, output=made, apply_kwargs={"train": False}, card=card)


def _array(found: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in found:
        raise WeightsFileError(f"the variable {name} of a WaveGAN is missing")
    return found[name]


def _last(found: Mapping[str, np.ndarray], layer: str) -> np.ndarray:
    name = f"{layer}/conv1d/kernel"
    return found[name] if name in found else _array(found, f"{layer}/conv2d_transpose/kernel")


def _variables(found: Mapping[str, np.ndarray], names: Mapping[str, tuple[str, str]], module: Any, shape: Any) -> Any:
    """The variables in Flax's names and layouts, checked against what the module makes of an input of this shape."""
    import jax
    import jax.numpy as jnp

    variables: dict[str, Any] = {}
    for name, array in found.items():
        layer, operation, part = name.split("/")
        own, normal = names[layer]
        collection, leaf = _NORM[part] if operation == "batch_normalization" else ("params", part)
        if operation == "conv2d_transpose" and part == "kernel":
            array = array[0].swapaxes(1, 2)
        target = variables.setdefault(collection, {}).setdefault(normal if part in _NORM else own, {})
        target[leaf] = np.ascontiguousarray(array, np.float32)
    try:
        wanted = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape))))
    except (TypeError, ValueError) as error:
        raise WeightsFileError(f"these are not the variables of a WaveGAN: {error}") from None
    expected, given = (
        {jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))}
        for tree in (wanted, variables)
    )
    for name in expected.keys() | given.keys():
        if expected.get(name) != given.get(name):
            raise WeightsFileError(
                f"variable {name} of this WaveGAN should have shape {expected.get(name)} and has {given.get(name)}"
            )
    return variables


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: FILE OUT."""
    parser = command.parser("wavegan", "Import the TensorFlow variables of a WaveGAN (.npz) as a Network folder.")
    parser.add_argument("file", type=pathlib.Path, help=".npz with the variables of a generator or a discriminator")
    parser.add_argument("out", type=pathlib.Path, help="folder to write, for nd_jax.load")
    parser.add_argument("--sample-rate", type=int, default=16000, help="of the sound, in Hz")

    def bring(options: argparse.Namespace) -> tuple[str, ...]:
        imported = network(options.file, options.sample_rate)
        imported.save(options.out)
        return (f"{options.out}: {imported!r}",)

    command.run(parser, bring, arguments)


if __name__ == "__main__":
    main()
