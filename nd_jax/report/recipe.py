"""The exact call that makes one lane of a visualization again, as Python source."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nd_jax.visualize.result import Visualization

_LABEL = re.compile(r"^(?P<name>.*?)(?::(?P<unit>\d+))?(?:@(?P<place>middle|[\d,]+))?(?:\^(?P<power>\d+))?$", re.DOTALL)


def sources(run: Visualization, lanes: Sequence[int], network: str | None = None) -> list[str]:
    """Python source that makes each of some lanes of `run` again, alone.

    Args:
      run: the result.
      lanes: which of its lanes.
      network: what `nd_jax.load` takes; by default the shipped checkpoint of that name, where there is one.
    """
    head, arguments = _settings(run)
    head = ["import jax", "import nd_jax as nd", "", f"network = {_network(run, network)}", *head]
    found = []
    for lane in lanes:
        replicate = int(run.replicates[lane])
        objective = _objective(run, lane)
        own = ["network", objective or "objective", *arguments] + ([f"replicates={replicate + 1}"] if replicate else [])
        scale = 1.0 if run.scale is None else float(run.scale[lane])
        own += [] if scale == 1 else [f"scale={scale!r}"]
        call = ["result = nd.visualize_batch(", *(f"    {argument}," for argument in own), ")"]
        ending = [f"result = result.select([{replicate}])"] if replicate else []
        given = [] if objective else [f"objective = ...  # the one labelled {_plain(run.labels[lane])}: put it here"]
        if run.starts and run.starts[lane].startswith("probe"):
            given.append("probes = ...  # this unit was started from a probing input: put those of the run here")
            call.insert(-1, "    probes=probes,")
        found.append("\n".join([*head, *given, *call, *ending]))
    return found


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
    try:
        # An optimizer of one's own cannot be written out, but the other settings can.
        by_hand = [name for name in ("parameterization", "penalties") if manifest.refers(stored[name])]
        usually = {**run.manifest, "settings": {**stored, "optimizer": usual}}
        restored = manifest.restore_settings(usually, given=by_hand)
        defaults = _defaults(run, restored)
        for name in ("parameterization", "transforms", "penalties"):
            if name in by_hand:
                lines.append(f"{name} = ...  # with the arrays or the generator of this run: put it here")
                arguments.append(f"{name}={name}")
            elif name not in defaults:
                arguments.append(f"{name}={_code(restored[name])}")
        arguments += [f"{name}={restored[name]!r}" for name, own in _plain_defaults() if restored[name] != own]
    except ValueError as error:
        lines.append(f"# {error}")
    if stored["optimizer"] == optimizers.CUSTOM:
        lines.append("optimizer = ...  # this run used an optimizer of its own: put it here")
        arguments.append("optimizer=optimizer")
    elif stored["optimizer"] != usual:
        arguments.append(f"optimizer=nd.visualize.{stored['optimizer']}")
    return lines, arguments


def _network(run: Visualization, given: str | None) -> str:
    from nd_jax.storage import shipped

    about = run.manifest.get("network") or {}
    name = str(about.get("name", ""))
    if given is None and name in shipped():
        given = f"checkpoints/{name}"
    if given is not None:
        return f"nd.load({str(given)!r})"
    return f"...  # your network {_plain(name)}, digest {_plain(about.get('digest', 'unknown'))}"


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


def _defaults(run: Visualization, restored: Mapping[str, Any]) -> set[str]:
    """The settings that `visualize_batch` picks by itself for this domain."""
    from nd_jax.visualize import parameterizations, transforms

    usual = {
        "parameterization": lambda: parameterizations.default(run.domain),
        "transforms": lambda: tuple(transforms.default(run.domain)),
        "penalties": tuple,
    }
    return {name for name, make in usual.items() if name in restored and restored[name] == make()}


def _plain_defaults() -> list[tuple[str, Any]]:
    """The settings that are single numbers, as `visualize_batch` picks them."""
    from nd_jax.visualize import visualize_batch

    known = inspect.signature(visualize_batch).parameters
    return [(name, known[name].default) for name in ("polish", "inputs_per_lane", "restarts")]


def _key(stored: Mapping[str, Any]) -> str:
    data = stored["data"]
    if stored["impl"] in ("fry", "threefry2x32") and len(data) == 2 and data[0] == 0:
        return f"jax.random.key({data[1]})"
    words = f"jax.numpy.array({data}, dtype='uint32')"
    return words if stored["impl"] == "raw" else f"jax.random.wrap_key_data({words}, impl={stored['impl']!r})"


def _code(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ", ".join(f"{field.name}={_code(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"nd.{type(value).__module__.removeprefix('nd_jax.')}.{type(value).__qualname__}({fields})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_code(item)}, " for item in value).rstrip(" ") + ")"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_code(item)}" for key, item in value.items()) + "}"
    return repr(value)
