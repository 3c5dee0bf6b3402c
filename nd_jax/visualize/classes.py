"""Class-based activation maximisation with a GAN prior: what a classifier takes for a class, among what a GAN makes.

The source ("Activation Maximization with a Prior in Speech Data", 2021) climbs, for every class t and from every start
z ~ N(0, 1),

    s_t - others * mean over k != t of s_k - l2 ||z||^2 / D - l1 ||z||_1 / D,      s = C(G(z)), the logits,

with others = 1, l2 = 100, l1 = 0, D the number of values of the classifier's input, in 301 steps of an Adam of its own
(`optimizers.class_adam`). How far z walks is then a matter of l2 and D, and what it finds may be a latent like none of
training's; unless asked, z is therefore kept where its law has it (`parameterizations.latent`) and its length has no
price. `project=False` is the source's loss. A generator that is asked for a class adds the question that the source
announced and left open: how much does the *condition* do, and how much the latent? So it is asked for the target, for
another class, or for a mixture of all that is free.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import generators, proportions, taps
from nd_jax.runtime import nearest
from nd_jax.visualize import objectives, optimizers, parameterizations
from nd_jax.visualize import parameter_penalties as penalties
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.objectives import places

if TYPE_CHECKING:
    from nd_jax.domain import Latent
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

SCHEDULE = (0, 1, 2, 4, 6, 10, 16, 27, 44, 71, 115, 186, 300)
"""The steps at which the source keeps a snapshot; 0 is the start."""
STEPS = 301
CONDITIONS = ("none", "target", "another", "free")
_BATCH = 64
_RESAMPLED = 1000


def maximize_classes(
    network: Network,
    generator: Network,
    classes: objectives.Units = None,
    *,
    key: jax.Array,
    seeds: int | Iterable[int] = 100,
    condition: str | None = None,
    part: str | None = None,
    others: float = 1.0,
    l2: float | None = None,
    l1: float | None = None,
    project: bool | None = None,
    learning_rate: float = 0.01,
    steps: int = STEPS,
    snapshots: int | Sequence[int] | None = None,
    **settings: Any,
) -> Visualization:
    """Every class from every seed through a generator: one `visualize_batch`, one lane a class and seed.

    Lanes stand seed by seed, all classes of the first seed first. The start z depends on the key and the seed alone:
    all classes and conditions begin at the same latents, so that what they reach is compared in pairs, and a lane comes
    out the same in whatever company.

    Args:
      network: a classifier with logits.
      generator: takes a latent, or {"z", "label"}, and makes what the classifier takes (`domain.converter`).
      classes: indices or label names of the classifier; None for all.
      key: a JAX key.
      seeds: how many starts a class (the source has 100), or their numbers.
      condition: of a generator with classes, what it is asked for: "target", the class that is climbed, by its name;
        "another", any other one, in turn over the seeds; "free", a softmax mixture of all, which is climbed too.
        "none" for a generator without classes. None takes "target" or "none", whichever fits.
      part: which output, for a network with several.
      others: how much the mean of the other classes counts; 1 in the source.
      l2: of the latent's squared length; None for the source's 100 where the latent is free.
      l1: of the sum of its absolute values; None for the source's 0.
      project: keep z where its law is, as `parameterizations.prior` does: at ||z|| = sqrt(d), or inside -1 ... 1 for
        the law "uniform", with no price on its length. False for the source's loss, a free z with l2 and l1; None for
        True unless l2 or l1 is given.
      learning_rate: of the first step; it falls by 1 % a step.
      steps: the source's 301.
      snapshots: None for the source's schedule as far as the steps go.
      **settings: further arguments of `visualize_batch`; transforms are none unless given.

    Returns:
      A Visualization (to run lanes again, call this with their seeds: `rerun` begins at starts of its own).
      `replicates` are the seeds, `parameters` {"z"} and what was asked for, {"label": (n, classes)}.

    Raises:
      ValueError: a condition that the generator cannot have, a price on a length that is kept, or what
        `visualize_batch` refuses.
    """
    chosen = class_indices(network, classes, part)
    numbers = np.arange(seeds) if isinstance(seeds, (int, np.integer)) else np.asarray(list(seeds))
    if isinstance(seeds, bool) or not len(numbers) or numbers.dtype.kind not in "iu" or np.any(numbers < 0):
        raise ValueError(f"seeds must be a number above 0, or numbers of 0 or more, got {seeds!r}")
    chosen_condition = check_condition(network, generator, condition, chosen, part)
    project, l2, l1 = price_of_length(project, l2, l1)
    label = {"none": None, "free": "free"}.get(chosen_condition, "held")
    prior = parameterizations.prior(generator, label=label, project=project)
    targets, lanes = np.tile(chosen, len(numbers)), np.repeat(numbers, len(chosen))
    start = _starts(prior, key, lanes)
    if label == "held":
        asked = asked_classes(network, generator, targets, lanes, chosen_condition, part)
        start["label"] = np.eye(len(generators.classes_of(generator)), dtype=np.float32)[asked]
    length = (penalties.latent_length(l2=l2, l1=l1),) if l2 or l1 else ()
    made = {
        "penalties": length,
        "transforms": (),
        "optimizer": optimizers.class_adam(learning_rate),
        "restarts": 0,
        **settings,
    }
    return visualize_batch(
        network,
        objectives.class_margin([int(target) for target in targets], others=others, part=part),
        key=key,
        parameterization=prior,
        replicates=[int(seed) for seed in lanes],
        start=start,
        steps=steps,
        snapshots=schedule(steps) if snapshots is None else snapshots,
        **made,
    )


def price_of_length(project: bool | None, l2: float | None, l1: float | None) -> tuple[bool, float, float]:
    """What `maximize_classes` makes of these arguments: whether the latent is kept where its law is, and the prices.

    Raises:
      ValueError: a price on a length that is kept.
    """
    if project and (l2 or l1):
        raise ValueError(f"a latent that is kept where its law is has no price on its length, got l2 {l2} and l1 {l1}")
    if project or (project is None and l2 is None and l1 is None):
        return True, 0.0, 0.0
    return False, 100.0 if l2 is None else float(l2), float(l1 or 0.0)


def schedule(steps: int) -> tuple[int, ...]:
    """The source's snapshots as far as the steps go, and the end where it has none within a step of it."""
    kept = tuple(step for step in SCHEDULE if step <= steps)
    return kept if kept[-1] >= steps - 1 else (*kept, steps)


def class_indices(network: Network, classes: objectives.Units = None, part: str | None = None) -> np.ndarray:
    """Classes of a network as indices (n,), all of them for None.

    Raises:
      ValueError: no such class or output.
    """
    layer = places.output_name(part)
    count = int(taps.layer_shape(network, layer)[-1])
    if classes is None:
        return np.arange(count)
    chosen: Any = places.indices(network, layer, places.chosen_units(layer, classes) or (), count)
    return np.asarray(chosen, int)


def class_names(network: Network, part: str | None = None) -> tuple[str, ...]:
    """What the classes of an output are called; their numbers where the network does not say."""
    count = len(class_indices(network, None, part))
    labels: Any = network.labels
    if isinstance(labels, Mapping):
        labels = labels.get(part, ())
    return tuple(map(str, labels)) if len(labels) == count else tuple(map(str, range(count)))


def check_condition(
    network: Network, generator: Network, condition: str | None, classes: np.ndarray, part: str | None = None
) -> str:
    """The condition that is meant.

    Raises:
      ValueError: an unknown one, or one that the generator cannot have.
    """
    names = generators.classes_of(generator)
    chosen = ("target" if names else "none") if condition is None else condition
    if chosen not in CONDITIONS:
        raise ValueError(f"unknown condition {condition!r}; {nearest(chosen, CONDITIONS)}")
    if (chosen == "none") != (not names):
        has = f"is asked for one of {len(names)} classes" if names else "has no classes"
        fits = "'target', 'another' or 'free'" if names else "'none'"
        raise ValueError(f"condition {chosen!r} does not fit this generator, which {has}: take {fits}")
    if chosen == "target":
        ours = class_names(network, part)
        missing = [ours[index] for index in classes if ours[index] not in names]
        if missing:
            raise ValueError(
                f"the generator cannot be asked for {missing[0]!r}, {nearest(missing[0], names)}; take condition 'free'"
            )
    return chosen


def asked_classes(
    network: Network,
    generator: Network,
    targets: np.ndarray,
    seeds: np.ndarray,
    condition: str,
    part: str | None = None,
) -> np.ndarray:
    """The generator's class of each lane, (n,): the target's, or another one, in turn over the seeds."""
    names, ours = generators.classes_of(generator), class_names(network, part)
    own = [names.index(ours[target]) if ours[target] in names else -1 for target in targets]
    if condition == "target":
        return np.asarray(own)
    found = []
    for number, seed in zip(own, seeds, strict=True):
        rest = [index for index in range(len(names)) if index != number]
        found.append(rest[seed % len(rest)])
    return np.asarray(found)


def starts(latent: Latent, key: jax.Array, seeds: Any) -> np.ndarray:
    """The latents that seeds begin at, (n, size): each depends on the key and its seed alone."""
    return np.asarray(latent.draw(_keys(key, seeds)))


def _starts(prior: parameterizations.Prior, key: jax.Array, seeds: np.ndarray) -> dict[str, np.ndarray]:
    different, back = np.unique(seeds, return_inverse=True)
    made = jax.device_get(jax.vmap(lambda one: prior.init(one, prior.generator.output))(_keys(key, different)))
    return {name: np.asarray(leaf)[back] for name, leaf in made.items()}


def _keys(key: jax.Array, seeds: Any) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(seeds, jnp.uint32))


# --- What was reached -------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reached:
    """How well inputs are recognised as the classes that were wanted.

    Attributes:
      share: of the inputs whose likeliest class is the wanted one, with its 95 % interval (`proportions.proportion`).
      probability: mean softmax probability of the wanted class; low, high: its 95 % interval, by the bootstrap.
    """

    share: dict[str, Any]
    probability: float
    low: float
    high: float


def said(network: Network, inputs: Any, part: str | None = None) -> np.ndarray:
    """Softmax probabilities (n, classes) of inputs (n, *shape), always so many at a time."""
    layer, count = places.output_name(part), len(jax.tree.leaves(inputs)[0])
    found = []
    for first in range(0, count, _BATCH):
        rows = jax.tree.map(lambda leaf, at=first: np.asarray(leaf)[at : at + _BATCH], inputs)
        more = _BATCH - len(jax.tree.leaves(rows)[0])
        rows = jax.tree.map(lambda leaf, more=more: np.concatenate([leaf, np.repeat(leaf[-1:], more, 0)]), rows)
        logits = taps.read(network, rows, [layer])[layer]
        found.append(np.asarray(jax.nn.softmax(logits, axis=-1))[: _BATCH - more])
    return np.concatenate(found)


def reached(probabilities: np.ndarray, targets: np.ndarray) -> Reached:
    """What became of inputs of which probabilities (n, classes) were said and classes (n,) were wanted.

    Raises:
      ValueError: none, or other counts.
    """
    chances, targets = np.asarray(probabilities, float), np.asarray(targets, int)
    if not len(targets) or len(chances) != len(targets):
        raise ValueError(f"{len(chances)} rows of probabilities for {len(targets)} wanted classes")
    wanted = chances[np.arange(len(targets)), targets]
    draw = np.random.default_rng(0).integers(0, len(wanted), (_RESAMPLED, len(wanted)))
    low, high = np.quantile(wanted[draw].mean(axis=1), [0.025, 0.975])
    share = proportions.proportion(chances.argmax(axis=1) == targets)
    return Reached(share, float(wanted.mean()), float(low), float(high))
