"""Reads what "AND: Audio Network Dissection" (Wu et al. 2024) has released or its code writes: no code of it is run.

    activations         target_{probing}_{target}_{layer}.pt      (clips, units) of one layer
    embeddings          audio_{probing}.pt, text_{concepts}.pt    CLAP's, of the clips and of the concepts
    samples             {target}_{probing}_{concepts}.json        a unit's clips: names, labels, activations
    predictions         db-{target}-top5.json, tab-{target}-top5.json, and ICL's replies, a list
    captions            salmon_{probing}.json                     {file: caption}
    concepts, classes   {concepts}.txt                            a name a line; with a tab and its number: classes

JSON and text files are known by what they hold, tensors by their names; folders do not matter. Tensors are read without
PyTorch and without running the pickles that describe them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from nd_jax.dissect.concepts import read_json, read_text
from nd_jax.networks.importers import torch_zip

LAST = "fc"
"""What AND calls the last layer."""
FUNCTIONS = {
    "cos-similarity": "cosine",
    "cos_similarity": "cosine",
    "cos_similarity_cubed": "cosine_cubed",
    "rank_reorder": "rank_reorder",
    "wpmi": "wpmi",
    "soft_wpmi": "soft_wpmi",
}
"""AND's names of the similarity functions, and ours."""

_TENSORS = {
    "activations": re.compile(r"target_(?P<probing>[^_]+)_(?P<target>[^_]+)_(?P<layer>.+?)(?P<pool>_max)?\.pt"),
    "sounds": re.compile(r"audio_(?P<probing>.+)\.pt"),
    "texts": re.compile(r"text_(?P<concepts>.+)\.pt"),
}
_METHODS = {"db-": "DB", "tab-": "TAB"}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a unit was called.

    Attributes:
      layer, unit: which one.
      names: {function: concepts, best first}; ICL's function is "reply", and its names the reply itself.
      truth: the class that it stands for; None of a hidden unit, or where the file does not say.
    """

    layer: str
    unit: int
    names: Mapping[str, tuple[str, ...]]
    truth: str | None


@dataclasses.dataclass(frozen=True)
class Predictions:
    """A file of predictions: method "DB", "TAB", "ICL" or "" where its name does not say; the target as in its name."""

    path: pathlib.Path
    method: str
    target: str
    units: tuple[Prediction, ...]


@dataclasses.dataclass(frozen=True)
class Samples:
    """Clips of units with the highest activations: {(layer, unit): (file names, values)}, best first."""

    path: pathlib.Path
    strongest: Mapping[tuple[str, int], tuple[tuple[str, ...], np.ndarray]]

    def layer(self, name: str) -> dict[int, tuple[tuple[str, ...], np.ndarray]]:
        """The units of one layer."""
        return {unit: found for (layer, unit), found in self.strongest.items() if layer == name}


@dataclasses.dataclass
class Released:
    """What a folder of AND's files holds.

    Attributes:
      folder: that was read.
      activations: {(target, probing): {layer: file}}, in the order of depth; tensors are read when they are asked for.
      sounds, texts: {probing: file} and {concepts: file} of embeddings.
      predictions, samples: what the JSON files hold.
      captions: {probing: {file: caption}}.
      concepts: {name of the set: names in the order of the file}.
      classes: {name of the set: {number: class}}.
      unused: {file: what it is}, of those that are for another part of AND.
      skipped: {file: why}, of those that cannot be read.
    """

    folder: pathlib.Path
    activations: dict[tuple[str, str], dict[str, pathlib.Path]] = dataclasses.field(default_factory=dict)
    sounds: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    texts: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    predictions: list[Predictions] = dataclasses.field(default_factory=list)
    samples: list[Samples] = dataclasses.field(default_factory=list)
    captions: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    concepts: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    classes: dict[str, dict[int, str]] = dataclasses.field(default_factory=dict)
    unused: dict[str, str] = dataclasses.field(default_factory=dict)
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)


def read(folder: Any) -> Released:
    """Reads a folder and those below it.

    Raises:
      ValueError: no such folder, or none of AND's files in it.
    """
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(f"there is no folder of AND's files at {root}")
    found = Released(root)
    kinds: dict[str, Callable[[pathlib.Path, Released], None]] = {".pt": _tensor, ".json": _json, ".txt": _text}
    paths = [path for path in sorted(root.rglob("*")) if path.suffix in kinds and path.is_file()]
    for path in paths:
        try:
            kinds[path.suffix](path, found)
        except (ValueError, OSError) as error:
            found.skipped[shown(path.relative_to(root))] = str(error)
    if not (found.activations or found.predictions or found.samples):
        first = next(iter(found.skipped.values()), "")
        more = f"; the first of {len(found.skipped)} that cannot be read: {first}" if first else ""
        raise ValueError(f"{root} has no activations, predictions or samples of AND among its {len(paths)} files{more}")
    for layers in found.activations.values():
        for layer in sorted(layers, key=_depth):
            layers[layer] = layers.pop(layer)
    return found


def tensor(path: pathlib.Path) -> np.ndarray:
    """The (rows, columns) tensor of a `.pt` file, float32.

    Raises:
      ValueError: not a PyTorch file, not one matrix, or numbers that are not finite; names the file.
    """
    every = torch_zip.read(path)
    if list(every) != [""] or every[""].ndim != 2 or 0 in every[""].shape or every[""].dtype.kind not in "fViu":
        held = ", ".join(f"{name or 'a tensor'} {value.shape}" for name, value in list(every.items())[:3])
        raise ValueError(f"{path} must hold one matrix, (rows, columns) of numbers, and holds {held}")
    values = np.asarray(every[""], np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: row {np.argwhere(~np.isfinite(values))[0][0]} has a number that is not finite")
    return values


def shown(path: Any) -> str:
    """A path as text; what is not UTF-8 in it as a question mark."""
    return str(path).encode(errors="surrogateescape").decode(errors="replace")


def _depth(layer: str) -> tuple[Any, ...]:
    """Layers by their numbers, the last one at the end."""
    return (layer == LAST, *(int(part) if part.isdecimal() else -1 for part in re.split(r"(\d+)", layer)), layer)


def _tensor(path: pathlib.Path, found: Released) -> None:
    for kind, pattern in _TENSORS.items():
        match = pattern.fullmatch(path.name)
        if match is None:
            continue
        if kind == "activations":
            layers = found.activations.setdefault((match["target"], match["probing"]), {})
            layers[match["layer"] + (match["pool"] or "")] = path
        else:
            getattr(found, kind)[match[1]] = path
        return
    raise ValueError("its name is none of target_*.pt, audio_*.pt and text_*.pt")


def _text(path: pathlib.Path, found: Released) -> None:
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    parts = [line.split("\t") for line in lines]
    if lines and all(len(part) == 2 and part[1].strip().isdecimal() for part in parts):
        numbers = {int(number): name for name, number in parts}
        if len(numbers) < len(parts):
            raise ValueError("a number stands for two classes")
        found.classes[path.stem] = numbers
    elif lines and not any("\t" in line for line in lines) and len(set(lines)) == len(lines):
        found.concepts[path.stem] = tuple(lines)
    else:
        raise ValueError("it is neither a list of concepts, one a line, nor of classes with their numbers after a tab")


def _json(path: pathlib.Path, found: Released) -> None:
    held = read_json(path)
    entries = list(held.values()) if isinstance(held, dict) else held
    if not isinstance(entries, list) or not entries:
        raise ValueError("it is empty, or neither a list nor an object")
    if isinstance(held, list) and all(isinstance(each, dict) and "response" in each for each in held):
        found.predictions.append(Predictions(path, "ICL", _icl_target(path), tuple(map(_reply, held))))
    elif not isinstance(held, dict):
        found.unused[shown(path.relative_to(found.folder))] = "a list, of another part of AND"
    elif all(isinstance(each, dict) and "highly_filename" in each for each in entries):
        found.samples.append(Samples(path, {_key(key): _sample(key, each) for key, each in held.items()}))
    elif all(isinstance(each, str) for each in entries):
        found.captions[path.stem.removeprefix("salmon_")] = held
    elif all("#" in key for key in held) and all(map(_is_prediction, entries)):
        method = next((word for start, word in _METHODS.items() if path.name.startswith(start)), "")
        target = re.sub(r"^(db|tab)-|-(top)?\d+$", "", path.stem)
        units = tuple(_predicted(key, each) for key, each in held.items())
        found.predictions.append(Predictions(path, method, target, units))
    else:
        found.unused[shown(path.relative_to(found.folder))] = "an object, of another part of AND"


def _is_prediction(entry: Any) -> bool:
    if isinstance(entry, dict):
        return bool(entry) and all(isinstance(each, dict) and "prediction" in each for each in entry.values())
    return _names(entry)


def _names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _key(key: str) -> tuple[str, int]:
    layer, _, unit = key.rpartition("#")
    if not layer or not unit.isdecimal():
        raise ValueError(f"{key!r} is not a layer and a unit, such as 'fc#0'")
    return layer, int(unit)


def _predicted(key: str, entry: Any) -> Prediction:
    layer, unit = _key(key)
    if isinstance(entry, list):
        # The older files have the names alone, by the function that DB uses.
        return Prediction(layer, unit, {"cosine_cubed": tuple(entry)}, None)
    names, truths = {}, set()
    for function, told in entry.items():
        if not _names(told["prediction"]):
            raise ValueError(f"{key!r} has no list of names as its prediction by {function!r}")
        names[FUNCTIONS.get(function, function)] = tuple(told["prediction"])
        truths.add(told.get("gt"))
    truth = _one(truths, key)
    return Prediction(layer, unit, names, truth)


def _one(truths: Iterable[Any], key: str) -> str | None:
    told = {each for each in truths if each is not None}
    if len(told) > 1 or not all(isinstance(each, str) for each in told):
        raise ValueError(f"{key!r} stands for {sorted(map(str, told))}, which must be one name")
    return next(iter(told), None)


def _reply(entry: Mapping[str, Any]) -> Prediction:
    layer, unit, reply = entry.get("target_layer"), entry.get("neuron_id"), entry["response"]
    if not isinstance(layer, str) or not isinstance(unit, int) or not isinstance(reply, str):
        raise ValueError(f"a reply must have a target_layer, a neuron_id and a response, and one has {entry!r:.80}")
    label = entry.get("neuron_label")
    truth = label.strip() if isinstance(label, str) and label.strip() not in ("", "None") else None
    return Prediction(layer, unit, {"reply": (reply,)}, truth if layer == LAST else None)


def _icl_target(path: pathlib.Path) -> str:
    return path.stem.split("_")[0]


def _sample(key: str, entry: Mapping[str, Any]) -> tuple[tuple[str, ...], np.ndarray]:
    files, values = entry["highly_filename"], entry.get("highly_activation_values")
    if not _names(files) or not isinstance(values, list) or len(values) != len(files):
        raise ValueError(f"{key!r} must have as many highly_activation_values as highly_filename")
    numbers = np.asarray(values, np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{key!r} has an activation that is not finite")
    return tuple(files), numbers
