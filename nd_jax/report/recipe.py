"""The exact call that makes one lane of a visualization again, as Python source."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nd_jax.visualize.result import Visualization

_LABEL = re.compile(r"^(?P<name>.*?)(?::(?P<unit>\d+))?(?:@(?P<place>middle|[\d,]+))?(?:\^(?P<power>\d+))?$", re.DOTALL)


def source(run: Visualization, lane: int, network: str | None = None) -> str:
    """Python source that makes lane `lane` of `run` again, alone.

    Args:
      run: the result.
      lane: which of its lanes.
      network: what `nd_jax.load` takes; by default the shipped checkpoint of that name, where there is one.
    """
    from nd_jax.visualize import manifest

    about = run.manifest
    lines = ["import jax", "import nd_jax as nd", "", f"network = {_network(run, network)}"]
    objective = _objective(run, lane)
    if not isinstance(about.get("settings"), Mapping) or "key" not in about:
        return "\n".join([*lines, f"result = nd.visualize_batch(network, {objective}, key=jax.random.key(0))"])
    settings = about["settings"]
    arguments = ["network", objective, f"key={_key(about['key'])}", f"steps={settings['steps']}"]
    arguments.append(f"snapshots={list(settings['snapshots'])}")
    try:
        # An optimizer of one's own cannot be written out, but the other settings can.
        restored = manifest.restore_settings({**about, "settings": {**settings, "optimizer": ""}})
        for name in ("parameterization", "transforms", "penalties"):
            if name not in _defaults(run, restored):
                arguments.append(f"{name}={_code(restored[name])}")
    except ValueError as error:
        lines.append(f"# {error}")
    if settings.get("optimizer") == manifest.CUSTOM:
        arguments.append("optimizer=optimizer")
        lines.insert(-1, "optimizer = ...  # this run used an optimizer of its own: put it here")
    replicate = int(run.replicates[lane])
    if replicate:
        arguments.append(f"replicates={replicate + 1}")
        ending = [f"result = result.select([{replicate}])"]
    else:
        ending = []
    call = ["result = nd.visualize_batch(", *(f"    {argument}," for argument in arguments), ")"]
    return "\n".join([*lines, *call, *ending])


def _network(run: Visualization, given: str | None) -> str:
    from nd_jax.storage import shipped

    about = run.manifest.get("network") or {}
    name = str(about.get("name", ""))
    if given is None and name in shipped():
        given = f"checkpoints/{name}"
    if given is not None:
        return f"nd.load({str(given)!r})"
    note = re.sub(r"[^\x20-\x7e]", "?", f"your network {name}, digest {about.get('digest', 'unknown')}")
    return f"...  # {note}"


def _objective(run: Visualization, lane: int) -> str:
    label, layer, unit = run.labels[lane], run.layers[lane], int(run.units[lane])
    kind = "channel"
    if label.startswith("probability of "):
        kind, label = "probability", label[len("probability of ") :]
    match = _LABEL.match(label)
    if match is None or match["name"] != layer or (unit < 0) != (match["unit"] is None) or unit < 0:
        return f"objective  # {label!r}: the sum or direction that this lane climbed".replace("\n", " ")
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
    return {name for name, make in usual.items() if restored[name] == make()}


def _key(stored: Mapping[str, Any]) -> str:
    data = stored["data"]
    if stored["impl"] in ("fry", "threefry2x32") and len(data) == 2 and data[0] == 0:
        return f"jax.random.key({data[1]})"
    words = f"jax.numpy.array({data}, dtype='uint32')"
    return words if stored["impl"] == "raw" else f"jax.random.wrap_key_data({words}, impl={stored['impl']!r})"


def _code(value: Any) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = ", ".join(f"{field.name}={_code(getattr(value, field.name))}" for field in dataclasses.fields(value))
        return f"nd.{type(value).__module__.rsplit('.', 1)[-1]}.{type(value).__name__}({fields})"
    if isinstance(value, tuple):
        return "(" + "".join(f"{_code(item)}, " for item in value).rstrip(" ") + ")"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_code(item)}" for key, item in value.items()) + "}"
    return repr(value)
