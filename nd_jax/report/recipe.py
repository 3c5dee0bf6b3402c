"""The exact call that makes one lane of a visualization again, as Python source."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import nd_jax
from nd_jax.report import recipe_objectives

if TYPE_CHECKING:
    from nd_jax.visualize.result import Visualization

_ARRAYS = "arrays["
_LABEL = re.compile(r"^(?P<name>.*?)(?::(?P<unit>\d+))?(?:@(?P<place>middle|[\d,]+))?(?:\^(?P<power>\d+))?$", re.DOTALL)


def sources(
    run: Visualization, lanes: Sequence[int], network: str | None = None, files: Sequence[str] | None = None
) -> list[str]:
    """Python source that makes each of some lanes of `run` again, alone.

    Arrays (a direction, a target, a spectrum of data) are read from the unit's npz file. What a file cannot hold, such
    as a function or an optimizer of one's own, is left as `...` with a comment.

    Args:
      run: the result.
      lanes: which of its lanes.
      network: what `nd_jax.load` takes; by default the shipped checkpoint of that name, where there is one.
      files: the name of each lane's npz file.
    """
    from nd_jax.visualize import asking

    lines, arguments = _settings(run)
    if asking.MARK in run.manifest:
        arguments = [text for text in arguments if text.split("=")[0] not in asking.FIXED]
    head = ["import jax", "import nd_jax as nd", "", f"network = {_network(run, network)}"]
    found = []
    for place, lane in enumerate(lanes):
        replicate = int(run.replicates[lane])
        before, objective = _lane_objective(run, lane)
        own = ["network", objective, *_classes(run), *arguments]
        own += [f"replicates={replicate + 1}"] if replicate else []
        scale = 1.0 if run.scale is None else float(run.scale[lane])
        own += [] if scale == 1 else [f"scale={scale!r}"]
        own += [] if run.strengths is None else [f"strengths={[float(value) for value in run.strengths[lane]]}"]
        if run.starts and run.starts[lane].startswith("probe"):
            before.append("probes = ...  # this unit was started from a probing input: put those of the run here")
            own.append("probes=probes")
        name = "nd.visualize.at_classes" if asking.MARK in run.manifest else "nd.visualize_batch"
        call = [f"result = {name}(", *(f"    {argument}," for argument in own), ")"]
        ending = [f"result = result.select([{replicate}])"] if replicate else []
        if _is_nearby(run):
            base = f"{_ARRAYS}'start/base']"
            before.append(f"start = {{'base': {base}, 'change': 0 * {base}, 'radius': {_ARRAYS}'start/radius']}}")
            call.insert(-1, "    start=start,")
        written = [*lines, *before, *call, *ending]
        if any(_ARRAYS in line for line in written):
            name = files[place] if files is not None else "unit.npz"
            written = [f"arrays = numpy.load({name!r})  # the npz file of this unit", *written]
        top = [*head[:1], "import numpy", *head[1:]] if any("numpy." in line for line in written) else head
        found.append("\n".join([*top, *written]))
    return found


def _classes(run: Visualization) -> list[str]:
    """The arguments that a call of `at_classes` has beside those of `visualize_batch`."""
    from nd_jax.visualize import asking

    classes = run.manifest.get(asking.MARK)
    if classes is None:
        return []
    own = [repr([int(number) for number in classes])]
    own += [] if asking.projects(run.manifest) else ["project=False"]
    tried = asking.tried(run.manifest)
    return own + ([] if tried == asking.CANDIDATES else [f"candidates={tried}"])


def kept_arrays(run: Visualization, lane: int) -> dict[str, np.ndarray]:
    """The arrays that the source of a lane reads from its npz file."""
    settings = {f"carried/{name}": value for name, value in run.carried.items() if isinstance(value, np.ndarray)}
    start = {}
    if _is_nearby(run):
        start = {f"start/{name}": np.asarray(run.parameters[name][lane]) for name in ("base", "radius")}
    return settings | start | recipe_objectives.held(run.objective, lane)


def _is_nearby(run: Visualization) -> bool:
    """Whether the run changed inputs that were given to it, which its parameters still hold."""
    stored = run.manifest.get("settings", {}).get("parameterization")
    return isinstance(stored, Mapping) and stored.get("is") == "Nearby" and "base" in run.parameters


def _lane_objective(run: Visualization, lane: int) -> tuple[list[str], str]:
    """Lines before the call, and the objective of a lane."""
    written = recipe_objectives.source(run.objective, lane)
    if written is not None:
        return written
    # Of joined results only the labels are left.
    objective = _objective(run, lane)
    if objective is not None:
        return [], objective
    return [f"objective = ...  # the one labelled {_plain(run.labels[lane])}: put it here"], "objective"


def _settings(run: Visualization) -> tuple[list[str], list[str]]:
    """Lines before the call, and its keyword arguments: only those that `visualize_batch` would not choose itself."""
    from nd_jax.visualize import manifest, optimizers

    stored = run.manifest.get("settings")
    if not isinstance(stored, Mapping) or "key" not in run.manifest:
        return ["# this result says nothing about its settings"], ["key=jax.random.key(0)"]
    lines: list[str] = []
    arguments = [f"key={_key(run.manifest['key'])}", f"steps={stored['steps']}"]
    arguments.append(f"snapshots={list(stored['snapshots'])}")
    usual = optimizers.name_of(optimizers.adam())
    defaults = _defaults(run)
    for name in ("parameterization", "transforms", "penalties"):
        if manifest.refers(stored[name]):
            lines += _generators(stored[name])
        elif stored[name] == defaults[name]:
            continue
        text, left, imports = _stored_code(stored[name])
        lines += imports
        if left:
            lines.append(f"{name} = ...  # this run used {left}, which is not a part of nd_jax: put it here")
        arguments.append(f"{name}={name if left else text}")
    restored = manifest.restore_settings(
        run.manifest, given=("parameterization", "transforms", "penalties", "optimizer")
    )
    for name, own in _plain_defaults():
        if name in restored and restored[name] != own:
            arguments.append(f"{name}={_code(restored[name])}")
    if stored["optimizer"] == optimizers.CUSTOM:
        lines.append("optimizer = ...  # this run used an optimizer of its own: put it here")
        arguments.append("optimizer=optimizer")
    elif stored["optimizer"] != usual:
        arguments.append(f"optimizer=nd.visualize.{stored['optimizer']}")
    return lines, arguments


def _generators(stored: Any) -> list[str]:
    """A line for each network among settings: loaded, where it ships with nd_jax."""
    from nd_jax.storage import shipped

    found: dict[str, str] = {}

    def look(node: Any) -> None:
        if isinstance(node, Mapping):
            if "network" in node:
                name, known = str(node["network"]), str(node["network"]) in shipped()
                value = f"nd.load({f'checkpoints/{name}'!r})" if known else f"...  # your network {_plain(name)}"
                found[_generator(node)] = f"{value}{',' if not known else '  #'} digest {_plain(node['digest'])}"
            for part in node.values():
                look(part)
        elif isinstance(node, (list, tuple)):
            for part in node:
                look(part)

    look(stored)
    return [f"{name} = {value}" for name, value in found.items()]


def _generator(node: Mapping[str, Any]) -> str:
    return f"generator_{re.sub(r'[^0-9a-f]', '', str(node['digest']))[:6]}"


def _stored_code(stored: Any) -> tuple[str, str, list[str]]:
    """A setting as the manifest has it, as source; what stands in the way, or nothing; and what must be imported."""
    from nd_jax.visualize import manifest

    left: list[str] = []
    imports: dict[str, None] = {}
    known = manifest.classes()

    def code(node: Any) -> str:
        if isinstance(node, list):
            return "(" + "".join(f"{code(item)}, " for item in node).rstrip(" ") + ")"
        if not isinstance(node, Mapping):
            return repr(node)
        if "map" in node:
            return "{" + ", ".join(f"{key!r}: {code(value)}" for key, value in node["map"]) + "}"
        if "array" in node:
            return f"{_ARRAYS}'carried/{node['array']}']"
        if "network" in node:
            return _generator(node)
        if node["is"] not in known:
            left.append("something of its own" if node["is"] == manifest.CUSTOM else f"a {_plain(node['is'])}")
            return "..."
        fields = ", ".join(f"{name}={code(value)}" for name, value in node.items() if name != "is")
        return f"{_address(known[node['is']], imports)}({fields})"

    text = code(stored)
    return text, ", ".join(dict.fromkeys(left)), list(imports)


def _address(cls: type, imports: dict[str, None]) -> str:
    """How a class of nd_jax is written; one that no public room shows is imported."""
    for room in ("parameterizations", "transforms", "penalties", "visualize"):
        if getattr(getattr(nd_jax, room), cls.__name__, None) is cls:
            return f"nd.{room}.{cls.__name__}"
    imports[f"from {cls.__module__} import {cls.__name__}"] = None
    return cls.__name__


def loaded(run: Visualization, given: str | None) -> str | None:
    """What `nd_jax.load` takes to load the network of a result: as given, or the shipped one of its name."""
    from nd_jax.storage import shipped

    name = str((run.manifest.get("network") or {}).get("name", ""))
    return f"checkpoints/{name}" if given is None and name in shipped() else given


def _network(run: Visualization, given: str | None) -> str:
    found = loaded(run, given)
    if found is not None:
        return f"nd.load({str(found)!r})"
    about = run.manifest.get("network") or {}
    return f"...  # your network {_plain(about.get('name', ''))}, digest {_plain(about.get('digest', 'unknown'))}"


def _plain(text: Any) -> str:
    """Text that cannot end a comment."""
    return re.sub(r"[^\x20-\x7e]", "?", str(text))


def _objective(run: Visualization, lane: int) -> str | None:
    """The objective of a lane as source, read back from its label; None for sums and directions."""
    label, layer, unit = run.labels[lane], run.layers[lane], int(run.units[lane])
    kind = "channel"
    if label.startswith("probability of "):
        kind, label = "probability", label[len("probability of ") :]
    match = _LABEL.match(label)
    if match is None or match["name"] != layer or match["unit"] != str(unit):
        return None
    if layer == "output" or layer.startswith("output["):
        kind = "logit" if kind == "channel" else kind
        part = layer[len("output[") : -1]
        return f"nd.objectives.{kind}([{unit}]" + (f", part={part!r})" if part else ")")
    arguments = [repr(layer), f"[{unit}]"]
    if match["place"]:
        kind = "neuron"
        if match["place"] != "middle":
            arguments.append(f"({match['place']},)")
    if match["power"]:
        arguments.append(f"power={match['power']}")
    return f"nd.objectives.{kind}({', '.join(arguments)})"


def _defaults(run: Visualization) -> dict[str, Any]:
    """The settings that `visualize_batch` picks by itself for this domain, as a manifest has them; None for none."""
    from nd_jax.visualize import manifest, parameterizations, transforms

    made: dict[str, Any] = {"penalties": []}
    usual = {
        "parameterization": lambda: manifest.plain(parameterizations.default(run.domain)),
        "transforms": lambda: [manifest.plain(item) for item in transforms.default(run.domain)],
    }
    for name, make in usual.items():
        try:
            made[name] = make()
        except ValueError:
            made[name] = None
    return made


def _plain_defaults() -> list[tuple[str, Any]]:
    """The settings that are single numbers, as `visualize_batch` picks them."""
    from nd_jax.visualize import visualize_batch

    known = inspect.signature(visualize_batch).parameters
    names = ("polish", "inputs_per_lane", "restarts", "stop_when")
    return [(name, known[name].default) for name in names if name in known]


def _key(stored: Mapping[str, Any]) -> str:
    data = stored["data"]
    if stored["impl"] in ("fry", "threefry2x32") and len(data) == 2 and data[0] == 0:
        return f"jax.random.key({data[1]})"
    words = f"jax.numpy.array({data}, dtype='uint32')"
    return words if stored["impl"] == "raw" else f"jax.random.wrap_key_data({words}, impl={stored['impl']!r})"


def _code(value: Any) -> str:
    """A setting that is a number, or a dataclass of `nd_jax.visualize` with numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ", ".join(f"{field.name}={_code(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"{_address(type(value), {})}({fields})"
    return repr(value)
