"""Objectives of units and outputs: neuron, channel, layer, joint neurons, logit, probability, class margin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.runtime import nearest
from nd_jax.visualize.objectives import places
from nd_jax.visualize.objectives.core import KINDS, Objective, ObjectiveKind, Term, one_term, row
from nd_jax.visualize.objectives.places import Units

if TYPE_CHECKING:
    from nd_jax.network import Network

REDUCTIONS = ("sum", "mean", "min")
READINGS = ("logit", "probability", "sigmoid")


def neuron(
    layer: str, units: Units = None, position: int | Sequence[int] | None = None, *, power: int = 1
) -> Objective:
    """The activation of a unit at one position.

    Args:
      layer: layer name.
      units: unit indices, one lane each; None for all.
      position: index on every axis before the last; None for the middle, n // 2 (Lucid's default).
      power: activation ** power.
    """
    options = (("position", places.place_of(position)), ("power", places.checked_power(power)))
    return _single("neuron", layer, units, options)


def channel(layer: str, units: Units = None, *, power: int = 1) -> Objective:
    """The mean activation of a unit over all positions of the layer.

    Args:
      layer: layer name.
      units: unit indices, one lane each; None for all.
      power: the mean of activation ** power (2: Neural Dissection's objective, which also climbs negative activations).
    """
    return _single("channel", layer, units, (("power", places.checked_power(power)),))


def layer(name: str, *, power: int = 2, absolute: bool = False) -> Objective:
    """The mean of activation ** power over a whole layer, one lane (DeepDream for power 2).

    Args:
      name: layer name.
      power: 1 for the plain mean, 2 for the mean square.
      absolute: of |activation| ** power (with power 1 Neural Dissection's GoogLeNet objective, as a mean).
    """
    if not isinstance(absolute, bool):
        raise ValueError(f"absolute must be True or False, got {absolute!r}")
    return one_term("layer", name, options=(("power", places.checked_power(power)), ("absolute", absolute)))


def joint(
    layer: str,
    groups: Sequence[Any],
    *,
    weights: Sequence[Any] | None = None,
    reduce: str = "sum",
    at: str | int | Sequence[int] | None = None,
) -> Objective:
    """Several units of a layer in one lane: sum_j w_j a_j, its mean over the group, or min_j w_j a_j.

    The sum may be had by one unit alone; the least of them needs all at once. Units of several layers add up:
    `channel("one", 3) + channel("two", 5)`.

    Args:
      layer: layer name.
      groups: units (or label names) of one lane, or a list of such lists, one lane each; they may differ in length.
      weights: numbers in the same arrangement, 1 by default.
      reduce: "sum", "mean" or "min".
      at: None for a unit's mean over all positions, "middle", or a position as in `neuron`.

    Raises:
      ValueError: an empty or repeated unit in a group, weights in another arrangement, an unknown way to reduce.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"unknown reduce {reduce!r}; {nearest(reduce, REDUCTIONS)}")
    if isinstance(at, str) and at != "middle":
        raise ValueError(f"at must be None, 'middle' or a position, got {at!r}")
    many = _nested(layer, groups)
    factors = [np.ones(len(group)) for group in many] if weights is None else _nested_weights(groups, weights)
    if [len(group) for group in many] != [len(row) for row in factors]:
        raise ValueError(f"weights must be arranged as the units {[len(group) for group in many]} a lane")
    width = max(map(len, many))
    padded = np.zeros((2, len(many), width), np.float32)
    for lane, (group, row_of) in enumerate(zip(many, factors, strict=True)):
        padded[0, lane, : len(group)] = row_of
        padded[1, lane, : len(group)] = 1
    if not np.all(np.isfinite(padded)):
        raise ValueError("weights of joint units must be finite numbers")
    where = (False, None) if at is None else (True, None if at == "middle" else places.place_of(at))  # type: ignore[arg-type]
    options = (("reduce", reduce), ("pointwise", where[0]), ("position", where[1]), ("groups", tuple(many)))
    return one_term("joint", layer, arrays={"weights": padded[0], "used": padded[1]}, options=options)


def logit(classes: Units = None, *, part: str | None = None) -> Objective:
    """An output of the network, before any softmax.

    Args:
      classes: indices or label names, one lane each; None for all.
      part: which output, for a network with several ("pitch").
    """
    return _single("logit", places.output_name(part), classes, ())


def probability(classes: Units = None, *, part: str | None = None, outputs: str = "auto") -> Objective:
    """The softmax probability of an output.

    Args:
      classes: indices or label names, one lane each; None for all.
      part: which output, for a network with several ("pitch").
      outputs: "logits", to which a softmax is applied; "probabilities", of a network that ends in one, which are read
        as they are; "auto" tells them apart by the network's output on silence and on noise.
    """
    return _single("probability", places.output_name(part), classes, (("outputs", places.checked_outputs(outputs)),))


def class_margin(
    classes: Units = None,
    *,
    others: float = 1.0,
    of: str = "logit",
    part: str | None = None,
    outputs: str = "auto",
) -> Objective:
    """A class against all others: s_t - others * mean over k != t of s_k.

    The loss of class-based activation maximisation with a GAN prior is its negative plus the length of the latent:

        L(z) = -s_t + lambda_u / (K - 1) * sum over k != t of s_k + lambda_2 ||z||^2 / D + lambda_1 ||z||_1 / D

    with lambda_u = `others` = 1, K = 4 classes, lambda_2 = 100, lambda_1 = 0 and D the number of values of the input:
    add `penalties.latent_length(l2=100, l1=0)`, and run through `parameterizations.prior(generator, project=False)`.

    Args:
      classes: indices or label names, one lane each; None for all.
      others: lambda_u, how much the mean of the other classes counts; 0 for the class alone.
      of: what s is: "logit" (the output as it is), "probability" (its softmax) or "sigmoid".
      part: which output, for a network with several ("pitch").
      outputs: for of="probability", as in `probability`.

    Raises:
      ValueError: a factor that is negative or not finite, or something unknown.
    """
    if not np.isfinite(others) or others < 0:
        raise ValueError(f"others must be a finite number of at least 0, got {others!r}")
    if of not in READINGS:
        raise ValueError(f"unknown reading {of!r}; {nearest(of, READINGS)}")
    options = (("of", of), ("outputs", places.checked_outputs(outputs)))
    made = _single("class_margin", places.output_name(part), classes, options)
    return Objective((dataclasses.replace(made.terms[0], arrays={"others": np.full(1, others, np.float32)}),))


def _neuron(
    activations: Mapping[str, jax.Array], layer: str, arrays: Any, position: tuple[int, ...] | None, power: int
) -> jax.Array:
    return jnp.take(places.at(activations[layer], position), arrays["unit"], axis=-1) ** power


def _channel(activations: Mapping[str, jax.Array], layer: str, arrays: Any, power: int) -> jax.Array:
    # Pool first, select after: the gradient's scatter then touches one number a unit, not one a position.
    return jnp.take(_pooled(activations[layer] ** power), arrays["unit"], axis=-1)


def _layer(
    activations: Mapping[str, jax.Array], layer: str, arrays: Any, power: int, absolute: bool = False
) -> jax.Array:
    activation = activations[layer]
    return jnp.mean((jnp.abs(activation) if absolute else activation) ** power)


def _joint(
    activations: Mapping[str, jax.Array],
    layer: str,
    arrays: Any,
    reduce: str,
    pointwise: bool,
    position: tuple[int, ...] | None,
) -> jax.Array:
    activation = activations[layer]
    values = places.at(activation, position) if pointwise else _pooled(activation)
    parts = arrays["weights"] * jnp.take(values, arrays["units"], axis=-1)
    if reduce == "min":
        return jnp.min(jnp.where(arrays["used"] > 0, parts, jnp.inf))
    return jnp.sum(parts) / (jnp.sum(arrays["used"]) if reduce == "mean" else 1.0)


def _logit(activations: Mapping[str, jax.Array], layer: str, arrays: Any) -> jax.Array:
    return jnp.take(activations[layer].reshape(-1), arrays["unit"], axis=-1)


def _probability(activations: Mapping[str, jax.Array], layer: str, arrays: Any, softmax: bool = True) -> jax.Array:
    flat = activations[layer].reshape(-1)
    return jnp.take(jax.nn.softmax(flat) if softmax else flat, arrays["unit"], axis=-1)


def _class_margin(activations: Mapping[str, jax.Array], layer: str, arrays: Any, of: str, softmax: bool) -> jax.Array:
    scores = activations[layer].reshape(-1)
    if of == "sigmoid":
        scores = jax.nn.sigmoid(scores)
    elif softmax:
        scores = jax.nn.softmax(scores)
    target = jnp.arange(scores.shape[0]) == arrays["unit"]
    rest = jnp.sum(jnp.where(target, 0.0, scores)) / (scores.shape[0] - 1)
    return jnp.take(scores, arrays["unit"], axis=-1) - arrays["others"] * rest


def _pooled(activation: jax.Array) -> jax.Array:
    return jnp.mean(activation.reshape(-1, activation.shape[-1]), axis=0)


def _single(kind: str, layer: str, units: Units, options: tuple[tuple[str, Any], ...]) -> Objective:
    if not isinstance(layer, str):
        raise ValueError(f"a layer is given by its name, got {layer!r}")
    return one_term(kind, layer, units=places.chosen_units(layer, units), options=options)


def _nested(layer: str, groups: Any) -> list[tuple[int | str, ...]]:
    given: Any = groups if not isinstance(groups, str) and np.iterable(groups) else [groups]
    lanes = [given] if not any(np.iterable(each) and not isinstance(each, str) for each in given) else given
    many = [places.chosen_units(layer, each) or () for each in lanes]
    for group in many:
        if len(set(group)) != len(group):
            raise ValueError(f"a group of joint units names each unit once, got {group}")
    if not many:
        raise ValueError(f"no units of layer {layer!r} were given")
    return many


def _nested_weights(groups: Any, weights: Any) -> list[np.ndarray]:
    flat = not any(np.iterable(each) and not isinstance(each, str) for each in groups)
    rows = [weights] if flat else weights
    return [np.atleast_1d(np.asarray(each, np.float32)) for each in rows]


def _resolve_joint(term: Term, network: Network) -> Term:
    options = dict(term.options)
    groups = options.pop("groups")
    resolved = places.resolve(dataclasses.replace(term, options=tuple(options.items())), network)
    count = taps.layer_shape(network, term.layer)[-1]
    units = np.zeros(term.arrays["used"].shape, np.int32)
    for lane, group in enumerate(groups):
        units[lane, : len(group)] = places.indices(network, term.layer, group, count)
    return dataclasses.replace(resolved, arrays={**term.arrays, "units": units})


def _resolve_output(term: Term, network: Network) -> Term:
    resolved = places.resolve(term, network)
    if int(np.prod(taps.layer_shape(network, term.layer))) < 2:
        why = "a softmax" if term.kind == "probability" else "a margin"
        raise ValueError(f"{term.layer!r} has one unit, and {why} needs two; use objectives.logit")
    options = dict(resolved.options)
    outputs = options.pop("outputs")
    if options.get("of", "probability") != "probability":
        options["softmax"] = False
    elif outputs == "auto":
        options["softmax"] = not places.gives_probabilities(network, term.layer)
    else:
        options["softmax"] = outputs == "logits"
    return dataclasses.replace(resolved, options=tuple(options.items()))


def _describe_unit(term: Term, lane: int) -> str:
    options = dict(term.options)
    text = f"{term.layer}:{row(term.units, lane)}" if term.units else term.layer
    if options.get("absolute"):
        text = f"|{text}|"
    if term.kind == "neuron":
        text += "@" + place_text(options["position"])
    return text + (f"^{options['power']}" if options.get("power", 1) != 1 else "")


def place_text(place: tuple[int, ...] | None) -> str:
    """A position in a label."""
    return "middle" if place is None else ",".join(map(str, place))


def _describe_joint(term: Term, lane: int) -> str:
    options = dict(term.options)
    parts = []
    for unit, weight, used in zip(
        row(term.arrays["units"], lane), row(term.arrays["weights"], lane), row(term.arrays["used"], lane), strict=True
    ):
        if used:
            parts.append(str(unit) if weight == 1 else f"{weight:g}*{unit}")
    where = f"@{place_text(options['position'])}" if options["pointwise"] else ""
    return f"{term.layer}:{options['reduce']}({', '.join(parts)}){where}"


def _describe_margin(term: Term, lane: int) -> str:
    others = float(row(term.arrays["others"], lane))
    what = {"logit": "", "probability": "probability of ", "sigmoid": "sigmoid of "}[dict(term.options)["of"]]
    factor = "" if others == 1 else f"{others:g} * "
    return f"{what}{term.layer}:{row(term.units, lane)} - {factor}mean of the others"


KINDS["neuron"] = ObjectiveKind(_neuron, places.resolve, _describe_unit, per_unit=True)
KINDS["channel"] = ObjectiveKind(_channel, places.resolve, _describe_unit, per_unit=True)
KINDS["layer"] = ObjectiveKind(_layer, places.resolve, _describe_unit)
KINDS["joint"] = ObjectiveKind(_joint, _resolve_joint, _describe_joint)
KINDS["logit"] = ObjectiveKind(_logit, places.resolve, _describe_unit, per_unit=True, whole_output=True)
KINDS["probability"] = ObjectiveKind(
    _probability,
    _resolve_output,
    lambda term, lane: f"probability of {_describe_unit(term, lane)}",
    per_unit=True,
    whole_output=True,
)
KINDS["class_margin"] = ObjectiveKind(_class_margin, _resolve_output, _describe_margin, whole_output=True)
