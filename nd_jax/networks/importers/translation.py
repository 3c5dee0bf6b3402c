"""Tensors of another project under the names of a module of ours: each one asked for, checked and counted."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from nd_jax.networks.importers.torch_zip import WeightsFileError
from nd_jax.runtime import nearest


class Translation:
    """Takes tensors out of a state dict in PyTorch's layouts and puts them where a Flax module has its own.

    Args:
      state: {name: array}.
      source: what to call it in a message.
    """

    def __init__(self, state: Mapping[str, np.ndarray], source: str):
        self.state = state
        self.source = source
        self.taken: dict[str, str] = {}
        self._params: dict[str, np.ndarray] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self.state

    def tensor(self, name: str, rank: int) -> np.ndarray:
        """A tensor of some rank as float32; it counts as taken.

        Raises:
          WeightsFileError: it is missing, of another rank, no floating-point numbers, or not finite.
        """
        if name not in self.state:
            raise WeightsFileError(f"{self.source} lacks the tensor {name}; {nearest(name, list(self.state))}")
        array = np.asarray(self.state[name])
        # Of ml_dtypes' bfloat16, numpy knows no more than that it is "V".
        if array.dtype.kind not in "fV":
            raise WeightsFileError(f"{self.source}: tensor {name} holds {array.dtype} and no floating-point numbers")
        if array.ndim != rank:
            raise WeightsFileError(
                f"{self.source}: tensor {name} has shape {array.shape}, and {rank} axes are expected"
            )
        array = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(array).all():
            raise WeightsFileError(f"{self.source}: tensor {name} holds something else than finite numbers")
        self.taken.setdefault(name, "")
        return array

    def put(self, path: str, array: np.ndarray, name: str) -> None:
        """Places an array, made of the tensor `name`, at a path such as "block1/norm1/scale"."""
        self._params[path] = np.ascontiguousarray(array)
        self.taken[name] = path

    def dense(self, path: str, name: str, *, bias: bool = True) -> None:
        """A linear layer, (out, in) -> (in, out)."""
        self.put(f"{path}/kernel", self.tensor(f"{name}.weight", 2).T, f"{name}.weight")
        if bias:
            self.put(f"{path}/bias", self.tensor(f"{name}.bias", 1), f"{name}.bias")

    def norm(self, path: str, name: str) -> None:
        """A layer normalisation."""
        self.put(f"{path}/scale", self.tensor(f"{name}.weight", 1), f"{name}.weight")
        self.put(f"{path}/bias", self.tensor(f"{name}.bias", 1), f"{name}.bias")

    def patches(self, path: str, name: str, *, bias: bool = True, turned: bool = False) -> None:
        """A 2-D convolution, OIHW -> HWIO; `turned` ones saw pictures that were transposed."""
        axes = (3, 2, 1, 0) if turned else (2, 3, 1, 0)
        self.put(f"{path}/kernel", self.tensor(f"{name}.weight", 4).transpose(axes), f"{name}.weight")
        if bias:
            self.put(f"{path}/bias", self.tensor(f"{name}.bias", 1), f"{name}.bias")

    def variables(self, module: nn.Module, shape: Sequence[int]) -> dict[str, Any]:
        """Everything that was put, as variables of a module that takes inputs of a shape.

        Raises:
          WeightsFileError: settings that contradict each other, or arrays of other shapes than the module has.
        """
        try:
            wanted = jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, *shape))))
        except (TypeError, ValueError) as error:
            raise WeightsFileError(f"{self.source} does not fit together: {error}") from None
        expected = {
            "/".join(key.key for key in path): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(dict(wanted["params"]))
        }
        origin = {path: name for name, path in self.taken.items()}
        for path in sorted(expected.keys() | self._params.keys()):
            found = self._params[path].shape if path in self._params else None
            if expected.get(path) != found:
                raise WeightsFileError(
                    f"{self.source}: tensor {origin.get(path, '(none)')} makes {path} of shape {found}, and its "
                    f"configuration needs {expected.get(path)}"
                )
        params: dict[str, Any] = {}
        for path, array in self._params.items():
            *parents, leaf = path.split("/")
            node = params
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = array
        return {"params": params}

    def summary(self) -> str:
        """One line on what was taken and what was left."""
        left = [name for name in self.state if name not in self.taken]
        count = sum(int(array.size) for array in self._params.values())
        rest = f"; not taken: {', '.join(left[:6])}{', ...' if len(left) > 6 else ''}" if left else ""
        return f"{len(self.taken)} tensors of {len(self.state)}, {count:,} numbers{rest}"


def setting(
    config: Mapping[str, Any], name: str, kind: type | tuple[type, ...], source: str, default: Any = None
) -> Any:
    """A value of a configuration, of one of some types; `default` where it is missing, an error where that is None.

    Raises:
      WeightsFileError: it is missing or of another type.
    """
    value = config.get(name, default)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if value is None or (isinstance(value, bool) and bool not in kinds) or not isinstance(value, kinds):
        wanted = " or ".join(each.__name__ for each in kinds)
        told = "is missing" if name not in config else f"is {value!r}"
        raise WeightsFileError(f"{source}: the setting {name!r} {told}, and must be of type {wanted}")
    return value


def read_config(path: str | pathlib.Path) -> dict[str, Any]:
    """A configuration from a JSON file.

    Raises:
      OSError: no such file.
      WeightsFileError: no JSON, or no object in it.
    """
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f"no configuration {path}")
    try:
        found = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsFileError(f"{path} is no JSON file: {error}") from None
    if not isinstance(found, dict):
        raise WeightsFileError(f"{path} holds a {type(found).__name__} and no settings")
    return found
