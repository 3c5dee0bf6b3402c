"""Network families: Flax modules that can be named in a file and built again from plain values.

Only names of this list and names registered in this process are ever built; nothing is imported because a file says so.

| family                    | module                                        | input of one example      |
|---------------------------|-----------------------------------------------|---------------------------|
| "ast"                     | Audio Spectrogram Transformer                 | (mel bands, frames, 1)    |
| "audio_cnn"               | small classifier of log-mels, several heads   | (mel bands, frames, 1)    |
| "beats"                   | BEATs, 90,311,664 numbers without a head     | (mel bands, frames, 1)    |
| "cnn_mel"                 | speech-emotion classifier, 1,560,964 numbers  | (80, 160, 1)              |
| "dcgan_discriminator"     | MNIST discriminator / critic                  | (28, 28, 1)               |
| "dcgan_generator"         | MNIST generator                               | (100,)                    |
| "gansynth_discriminator"  | GANSynth's, 6,831,230 numbers                 | (frames, mel bands, 2)    |
| "gansynth_generator"      | GANSynth's, 7,311,246 numbers                 | (256,) and a pitch        |
| "googlenet"               | torchvision's GoogLeNet, 6,624,904 numbers    | (224, 224, 3)             |
| "lenet"                   | LeNets for MNIST and CIFAR-10                 | (28, 28, 1), (32, 32, 3)  |
| "mel_dcgan_discriminator" | discriminator / critic of log-mels            | (mel bands, frames, 1)    |
| "mel_dcgan_generator"     | log-mel generator, 15,863,619 numbers         | (512,)                    |
| "vgg"                     | torchvision's VGGs; VGG16: 138,357,544        | (224, 224, 3)             |
| "wave_cnn"                | small classifier of raw audio, several heads  | (samples, 1)              |
| "wavegan_discriminator"   | discriminator / critic of raw audio           | (samples, 1)              |
| "wavegan_generator"       | raw-audio generator                           | (100,)                    |

The six other GAN players have class-conditional versions, fields `classes` and `conditioning`: see `conditional`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from nd_jax.runtime import nearest

_BUILT_IN = {
    "ast": ("nd_jax.networks.ast", "AST"),
    "audio_cnn": ("nd_jax.networks.audio_cnn", "AudioCNN"),
    "beats": ("nd_jax.networks.beats", "BEATs"),
    "cnn_mel": ("nd_jax.networks.cnn_mel", "CNNMel"),
    "dcgan_discriminator": ("nd_jax.networks.dcgan", "Discriminator"),
    "dcgan_generator": ("nd_jax.networks.dcgan", "Generator"),
    "gansynth_discriminator": ("nd_jax.networks.gansynth", "Discriminator"),
    "gansynth_generator": ("nd_jax.networks.gansynth", "Generator"),
    "googlenet": ("nd_jax.networks.googlenet", "GoogLeNet"),
    "lenet": ("nd_jax.networks.lenet", "LeNet"),
    "mel_dcgan_discriminator": ("nd_jax.networks.mel_dcgan", "Discriminator"),
    "mel_dcgan_generator": ("nd_jax.networks.mel_dcgan", "Generator"),
    "vgg": ("nd_jax.networks.vgg", "VGG"),
    "wave_cnn": ("nd_jax.networks.wave_cnn", "WaveCNN"),
    "wavegan_discriminator": ("nd_jax.networks.wavegan", "Discriminator"),
    "wavegan_generator": ("nd_jax.networks.wavegan", "Generator"),
}
_REGISTERED: dict[str, type[nn.Module]] = {}


def families() -> tuple[str, ...]:
    """All family names that can be built in this process."""
    return tuple(sorted((*_BUILT_IN, *_REGISTERED)))


def register(name: str, module_class: type[nn.Module]) -> None:
    """Makes a Flax module of your own a family: networks of it can then be saved and loaded by name.

    Args:
      name: the family name written into `network.json`; registering it again replaces the class.
      module_class: a `flax.linen.Module` subclass whose fields are plain values (numbers, strings, booleans, tuples).

    Raises:
      ValueError: the name is empty or that of a built-in family, or the class is no Flax module.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"a family name is a non-empty string, not {name!r}")
    if name in _BUILT_IN:
        raise ValueError(f"{name!r} is a built-in family; choose another name for {module_class!r}")
    if not (isinstance(module_class, type) and issubclass(module_class, nn.Module)):
        raise ValueError(f"a family is a subclass of flax.linen.Module, not {module_class!r}")
    _REGISTERED[name] = module_class


def family(name: str) -> type[nn.Module]:
    """The module class of a family.

    Raises:
      ValueError: neither built in nor registered in this process.
    """
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name not in _BUILT_IN:
        raise ValueError(
            f"unknown network family {name!r}; {nearest(str(name), families())} "
            "(a family of your own: nd_jax.networks.register(name, ModuleClass))"
        )
    module, attribute = _BUILT_IN[name]
    return getattr(importlib.import_module(module), attribute)


def family_of(module: nn.Module) -> str:
    """The family name of a module.

    Raises:
      ValueError: its class is neither built in nor registered.
    """
    wanted = type(module)
    for name, registered in _REGISTERED.items():
        if registered is wanted:
            return name
    for name, location in _BUILT_IN.items():
        if location == (wanted.__module__, wanted.__qualname__):
            return name
    raise ValueError(
        f"{wanted.__module__}.{wanted.__qualname__} is not a registered network family; "
        "call nd_jax.networks.register(name, ModuleClass) first"
    )


def _fields(module_class: type[nn.Module]) -> dict[str, dataclasses.Field]:
    fields = dataclasses.fields(module_class)  # type: ignore[arg-type]
    return {field.name: field for field in fields if field.init and field.name not in ("parent", "name")}


def config_of(module: nn.Module) -> dict[str, Any]:
    """The fields of a module as JSON values: tuples become lists; other fields must be at their default.

    Raises:
      ValueError: a field is neither a plain value nor at its default.
    """
    config = {}
    for name, field in _fields(type(module)).items():
        value = getattr(module, name)
        try:
            config[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            if value is not field.default:
                raise ValueError(
                    f"field {name!r} of {type(module).__name__} is {value!r}; only numbers, strings, booleans and "
                    "tuples of them can be saved"
                ) from None
    return config


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Builds a module of a family from plain values.

    Args:
      name: a built-in or registered family name.
      config: JSON values of its fields, as `config_of` gives them; lists become tuples.

    Raises:
      ValueError: unknown family, unknown or missing field, or a value of the wrong type, in one sentence.
    """
    module_class = family(name)
    if not isinstance(config, Mapping):
        raise ValueError(f"the config of network family {name!r} is a dict, not {type(config).__name__}")
    fields = _fields(module_class)
    hints = typing.get_type_hints(module_class)
    values = {}
    for key, value in config.items():
        if key not in fields:
            raise ValueError(f"network family {name!r} has no field {key!r}; {nearest(str(key), fields)}")
        value = _frozen(value)
        if not _fits(value, hints.get(key, Any)):
            expected = fields[key].type if isinstance(fields[key].type, str) else hints[key]
            raise ValueError(f"field {key!r} of network family {name!r} must be {expected}, got {value!r}")
        values[key] = value
    for key, field in fields.items():
        if key not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"network family {name!r} needs a value for its field {key!r}")
    return module_class(**values)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value has the type of a field's annotation; annotations beyond plain types fit anything."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, choice) for choice in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(_fits(item, kind) for item, kind in zip(value, inner, strict=True))
    if hint is type(None):
        return value is None
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float)
    if hint in (int, str, bool, tuple):
        return isinstance(value, hint)
    return True
