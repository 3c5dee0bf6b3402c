"""Objectives of a result as Python source: every kind in `nd_jax.objectives`, sums and paths of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nd_jax import taps
from nd_jax.visualize.objectives import Bound, Missing
from nd_jax.visualize.objectives.core import qualified

Lane = Mapping[str, np.ndarray]

# Arrays that say what an objective is and are no settings: they stand in the unit's npz.
_HELD = {"direction": ("vector",), "cosine": ("vector",), "match": ("target",), "caricature": ("target",)}
_OWN = "own:"


def held(lanes: Bound | None, lane: int) -> dict[str, np.ndarray]:
    """The arrays of a lane's objective that its source reads from a file, {"objective/term/name": array}."""
    found: dict[str, np.ndarray] = {}
    for place, ((kind, _, _), arrays) in enumerate(zip(*_terms(lanes), strict=True)):
        wanted = _HELD.get(kind, ()) if kind != "custom" else [name for name in arrays if name.startswith(_OWN)]
        found |= {f"objective/{place}/{name}": np.asarray(arrays[name][lane]) for name in wanted}
    return found


def source(lanes: Bound | None, lane: int) -> tuple[list[str], str] | None:
    """Lines to stand before, and the expression of one lane of an objective; None for a result without its objective.

    The expression may read `arrays`, the unit's npz; what the lines leave open (a function of one's own) they say.
    """
    if lanes is None:
        return None
    before: list[str] = []
    terms = []
    specs, stored = _terms(lanes)
    for place, ((kind, layer, options), arrays) in enumerate(zip(specs, stored, strict=True)):
        own = {name: np.asarray(array[lane]) for name, array in arrays.items()}
        write = _WRITERS.get(kind)
        if write is None:
            return None
        text = write(layer, dict(options), own, _Place(place, lanes.labels[lane], before))
        terms.append((text, float(own["weight"]), own.get("share")))
    return before, _summed(terms)


def _terms(lanes: Bound | None) -> tuple[Any, Any]:
    return ((), ()) if lanes is None else (lanes.spec, lanes.arrays)


def _summed(terms: list[tuple[str, float, np.ndarray | None]]) -> str:
    shares = [share for _, _, share in terms if share is not None]
    if not shares:
        return " + ".join(_weighted(text, weight) for text, weight, _ in terms)
    # A path has two ends: what counts at its beginning and what counts at the end of it.
    first = " + ".join(_weighted(text, weight) for text, weight, share in terms if share is not None and share[0] == 1)
    last = " + ".join(_weighted(text, weight) for text, weight, share in terms if share is not None and share[0] == 0)
    rest = [_weighted(text, weight) for text, weight, share in terms if share is None]
    return " + ".join([f"nd.objectives.interpolate({first}, {last}, {len(shares[0])}, together=True)", *rest])


def _weighted(text: str, weight: float) -> str:
    return text if weight == 1 else f"{_number(weight)} * {text}"


def _number(value: Any) -> str:
    """The shortest decimal that is this float32 again."""
    return repr(float(str(np.float32(value))))


class _Place:
    """Where a term stands: what its arrays are called, and lines that must come before."""

    def __init__(self, number: int, label: str, before: list[str]):
        self.number, self.label, self.before = number, label, before

    def array(self, name: str) -> str:
        return f"arrays['objective/{self.number}/{name}']"


def _call(name: str, *arguments: str, **named: Any) -> str:
    given = [*arguments, *(f"{key}={value}" for key, value in named.items() if value is not None)]
    return f"nd.objectives.{name}({', '.join(given)})"


def _position(place: Any) -> str | None:
    return None if place is None else repr(tuple(int(index) for index in place))


def _power(options: Mapping[str, Any]) -> str | None:
    return None if options.get("power", 1) == 1 else repr(options["power"])


def _part(layer: str) -> str | None:
    part = layer[len(taps.OUTPUT) + 1 : -1]
    return repr(part) if part else None


def _unit(own: Lane) -> str:
    return f"[{int(own['unit'])}]"


def _neuron(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call(
        "neuron", repr(layer), _unit(own), **{"position": _position(options["position"]), "power": _power(options)}
    )


def _channel(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("channel", repr(layer), _unit(own), power=_power(options))


def _layer(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call(
        "layer", repr(layer), power=repr(options["power"]), absolute="True" if options.get("absolute") else None
    )


def _joint(layer: str, options: Any, own: Lane, place: _Place) -> str:
    used = own["used"] > 0
    units = [int(unit) for unit in own["units"][used]]
    weights = [float(str(weight)) for weight in own["weights"][used]]
    at = None
    if options["pointwise"]:
        at = repr("middle") if options["position"] is None else _position(options["position"])
    return _call(
        "joint",
        repr(layer),
        f"[{units}]",
        weights=None if all(weight == 1 for weight in weights) else f"[{weights}]",
        reduce=None if options["reduce"] == "sum" else repr(options["reduce"]),
        at=at,
    )


def _logit(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("logit", _unit(own), part=_part(layer))


def _outputs(options: Any) -> str:
    return repr("logits" if options.get("softmax", True) else "probabilities")


def _probability(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("probability", _unit(own), part=_part(layer), outputs=_outputs(options))


def _class_margin(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call(
        "class_margin",
        _unit(own),
        others=None if own["others"] == 1 else _number(own["others"]),
        of=None if options["of"] == "logit" else repr(options["of"]),
        part=_part(layer),
        outputs=_outputs(options) if options["of"] == "probability" else None,
    )


def _cosine_power(options: Any, usual: float) -> str | None:
    return None if options["cosine_power"] == usual else repr(options["cosine_power"])


def _direction(layer: str, options: Any, own: Lane, place: _Place) -> str:
    power, where = _cosine_power(options, 0.0), _position(options["position"])
    return _call("direction", repr(layer), place.array("vector"), cosine_power=power, position=where)


def _cosine(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("cosine", repr(layer), place.array("vector"), position=_position(options["position"]))


def _match(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("match", repr(layer), activations=place.array("target"))


def _caricature(layer: str, options: Any, own: Lane, place: _Place) -> str:
    target, power = place.array("target"), _cosine_power(options, 2.0)
    return _call("caricature", repr(layer), activations=target, cosine_power=power)


def _diversity(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("diversity", repr(layer))


def _alignment(layer: str, options: Any, own: Lane, place: _Place) -> str:
    return _call("alignment", repr(layer), decay=None if options["decay"] == 2 else repr(options["decay"]))


def _custom(layer: str, options: Any, own: Lane, place: _Place) -> str:
    function = options["function"]
    name = function.name if isinstance(function, Missing) else qualified(function)
    place.before.append(f"function = ...  # this objective is a function of your own, {_safe(name)}: put it here")
    given = [name.removeprefix(_OWN) for name in own if name.startswith(_OWN)]
    arrays = ", ".join(f"{name!r}: {place.array(_OWN + name)}[None]" for name in given)
    return _call(
        "custom",
        "function",
        repr(list(options["layers"])),
        label=repr(place.label),
        arrays=f"{{{arrays}}}" if given else None,
    )


def _safe(text: Any) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in str(text))


_WRITERS: dict[str, Callable[[str, Any, Lane, _Place], str]] = {
    "neuron": _neuron,
    "channel": _channel,
    "layer": _layer,
    "joint": _joint,
    "logit": _logit,
    "probability": _probability,
    "class_margin": _class_margin,
    "direction": _direction,
    "cosine": _cosine,
    "match": _match,
    "caricature": _caricature,
    "diversity": _diversity,
    "alignment": _alignment,
    "custom": _custom,
}
