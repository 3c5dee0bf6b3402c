"""How little it takes to change a classifier's mind about a real input: by a small change, or by blending.

`adversarial` climbs another class from real inputs within a budget, many inputs and many budgets as lanes of
`visualize_batch`, and finds the smallest budget that flips the class. `blend` mixes something else into real inputs and
tells from which share on the class flips. Both say beside what: noise of the same size, other real inputs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nd_jax import taps
from nd_jax.visualize import objectives, optimizers
from nd_jax.visualize.batch import visualize_batch
from nd_jax.visualize.parameterizations.nearby import nearby

if TYPE_CHECKING:
    from nd_jax.network import Network
    from nd_jax.visualize.result import Visualization

# Root-mean-square change (l2) or largest change (linf) as a share of the domain's range, a factor of 2 apart.
BUDGETS = tuple(float(0.0025 * 2**power) for power in range(8))
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Adversarial:
    """What `adversarial` found for n inputs.

    Attributes:
      sources: (n,) the class that the network gives each input; targets: (n,) the class that was climbed.
      budgets: (n,) the smallest budget that flipped the class to the target, a share of the domain's range; where none
        did, nan.
      inputs: (n, *shape) the changed inputs, at that budget or at the largest that was tried.
      l2, linf: (n,) how far these are from the given ones, in the domain's values; rms: (n,) root-mean-square change as
        a share of the range.
      before, after: (n, classes) probabilities (softmax) of the given and of the changed inputs.
      noise: (n,) the share of random changes of the same length, as large as the found one in "l2", after which the
        network still says the source.
      result: the last run, one lane an input, with snapshots of the way.
    """

    sources: np.ndarray
    targets: np.ndarray
    budgets: np.ndarray
    inputs: np.ndarray
    l2: np.ndarray
    linf: np.ndarray
    rms: np.ndarray
    before: np.ndarray
    after: np.ndarray
    noise: np.ndarray
    result: Visualization

    @property
    def flipped(self) -> np.ndarray:
        """(n,) whether the network says the target."""
        return np.isfinite(self.budgets)


@dataclasses.dataclass(frozen=True)
class Blend:
    """What `blend` found for n inputs.

    Attributes:
      shares: (k,) how much of the other input, 0 ... 1.
      probabilities: (n, k, classes) softmax of the network on (1 - share) x + share y.
      flips: (n,) the smallest of the shares at which the network says the target; nan where it never does.
    """

    shares: np.ndarray
    probabilities: np.ndarray
    flips: np.ndarray


def adversarial(
    network: Network,
    inputs: Any,
    targets: Any = None,
    *,
    key: jax.Array,
    norm: str = "l2",
    budgets: Sequence[float] = BUDGETS,
    finer: int = 8,
    steps: int = 60,
    learning_rate: float = 0.1,
    snapshots: int | Sequence[int] = 24,
    noise: int = 64,
    chunk_size: int | None = None,
    progress: bool = True,
) -> Adversarial:
    """The smallest change of real inputs after which a classifier says another class.

    Climbs logit(target) - logit(source) by Adam within a ball around every input (`parameterizations.nearby`), all
    inputs and all budgets at once; then again with `finer` budgets between the largest that failed and the smallest
    that succeeded. Szegedy et al. 2014, "Intriguing properties of neural networks"; Madry et al. 2018, "Towards deep
    learning models resistant to adversarial attacks".

    Args:
      network: a classifier with one output of logits and a domain with two finite ends.
      inputs: (n, *network.input.shape).
      targets: (n,) or one: numbers of the classes to climb; None for the second most likely class of each input.
      key: a JAX key.
      norm: "l2" or "linf".
      budgets: what is tried, each a share of the domain's range: the root-mean-square change for "l2", the largest
        change of a value for "linf".
      finer: how many budgets are tried between two of these.
      steps: optimizer steps of each run.
      learning_rate: of Adam.
      snapshots: of the last run, as in `visualize_batch`.
      noise: random changes of the same length that each found one is compared with.
      chunk_size: as in `visualize_batch`.
      progress: whether to draw bars.

    Raises:
      ValueError: inputs, targets or budgets that make no sense here, in one sentence.
    """
    shape = _checked(network, inputs, budgets)
    given = np.asarray(inputs, np.float32)
    before = probabilities(network, given)
    sources = before.argmax(axis=1)
    aims = _targets(targets, before, sources)
    unit = (network.input.high - network.input.low) * (float(np.sqrt(np.prod(shape))) if norm == "l2" else 1.0)
    near = nearby(1.0, norm=norm)

    def climb(tried: np.ndarray, moments: Any) -> tuple[Visualization, np.ndarray]:
        """A run with budgets (n, k); whether the class is the target, (n, k)."""
        lanes = np.repeat(np.arange(len(given)), tried.shape[1])
        goal = objectives.logit(aims[lanes])
        away = objectives.logit(sources[lanes])
        start = {
            "base": given[lanes],
            "change": np.zeros_like(given[lanes]),
            "radius": (tried.reshape(-1) * unit).astype(np.float32),
        }
        result = visualize_batch(
            network,
            goal - away,
            key=key,
            parameterization=near,
            transforms=(),
            optimizer=optimizers.adam(learning_rate),
            steps=steps,
            snapshots=moments,
            start=start,
            restarts=0,
            chunk_size=chunk_size,
            progress=progress,
        )
        says = probabilities(network, result.inputs).argmax(axis=1)
        return result, (says == aims[lanes]).reshape(tried.shape)

    tried = np.broadcast_to(np.sort(np.asarray(budgets, float)), (len(given), len(budgets)))
    chosen, reached = _smallest(tried, climb(tried, 0)[1])
    if finer and reached.any():
        below = np.where(tried < chosen[:, None], tried, 0.0).max(axis=1)
        between = below[:, None] + (chosen - below)[:, None] * np.arange(1, finer + 1) / (finer + 1)
        found, better = _smallest(between, climb(between, 0)[1])
        chosen = np.where(reached & better, found, chosen)
    result, says = climb(chosen[:, None], snapshots)
    change = np.asarray(result.inputs, np.float64) - given
    flat = change.reshape(len(given), -1)
    span = network.input.high - network.input.low
    return Adversarial(
        sources=sources,
        targets=aims,
        budgets=np.where(says[:, 0], chosen, np.nan),
        inputs=np.asarray(result.inputs),
        l2=np.linalg.norm(flat, axis=1),
        linf=np.abs(flat).max(axis=1),
        rms=np.sqrt(np.mean(np.square(flat), axis=1)) / span,
        before=before,
        after=probabilities(network, result.inputs),
        noise=_noise(network, given, np.linalg.norm(flat, axis=1), sources, noise, key),
        result=result,
    )


def blend(network: Network, inputs: Any, others: Any, targets: Any, *, shares: Any = None) -> Blend:
    """Mixes one input into another and looks from which share on the class flips.

    Args:
      network: a classifier with one output of logits.
      inputs: (n, *network.input.shape), what is there.
      others: the same shape, what is mixed in.
      targets: (n,) numbers of the classes that `others` stand for.
      shares: (k,) shares of `others`, rising; by default 0, 0.01, ..., 1.

    Raises:
      ValueError: arrays that do not fit each other, or shares outside 0 ... 1.
    """
    given, mixed = np.asarray(inputs, np.float32), np.asarray(others, np.float32)
    aims = np.asarray(targets, int)
    if given.shape != mixed.shape or aims.shape != given.shape[:1]:
        raise ValueError(f"blending {given.shape} with {mixed.shape} for targets {aims.shape}: one for each is needed")
    parts = np.linspace(0, 1, 101) if shares is None else np.asarray(shares, float)
    if parts.ndim != 1 or not parts.size or parts.min() < 0 or parts.max() > 1 or np.any(np.diff(parts) <= 0):
        raise ValueError(f"shares must rise within 0 ... 1, got {parts!r}")
    found = np.stack(
        [
            probabilities(network, one + parts.reshape(-1, *(1,) * one.ndim).astype(np.float32) * (other - one))
            for one, other in zip(given, mixed, strict=True)
        ]
    )
    says = found.argmax(axis=2) == aims[:, None]
    flips = np.where(says.any(axis=1), parts[says.argmax(axis=1)], np.nan)
    return Blend(parts, found, flips)


def probabilities(network: Network, inputs: Any) -> np.ndarray:
    """Softmax of a classifier's logits: (n, *shape) -> (n, classes), in batches of one size."""
    given = np.asarray(inputs, np.float32)
    found = []
    for first in range(0, len(given), _BATCH):
        part = given[first : first + _BATCH]
        filled = np.concatenate([part, np.repeat(part[:1], _BATCH - len(part), axis=0)]) if first else part
        found.append(np.asarray(jax.nn.softmax(network(jnp.asarray(filled)), axis=-1))[: len(part)])
    return np.concatenate(found)


def _checked(network: Network, inputs: Any, budgets: Sequence[float]) -> tuple[int, ...]:
    outputs = taps.output_shapes(network)
    if set(outputs) != {taps.OUTPUT} or len(outputs[taps.OUTPUT]) != 1 or outputs[taps.OUTPUT][0] < 2:
        raise ValueError(f"an adversarial example needs a classifier with one output of logits, not {outputs}")
    if not np.isfinite([network.input.low, network.input.high]).all():
        raise ValueError(f"an adversarial example needs a domain with two ends, not {network.input.kind!r}")
    network.check_batch(np.asarray(inputs))
    values = np.asarray(budgets, float)
    if values.ndim != 1 or not values.size or not np.all(np.isfinite(values) & (values > 0)):
        raise ValueError(f"budgets are shares of the range above 0, got {budgets!r}")
    return tuple(network.input.shape)


def _targets(targets: Any, before: np.ndarray, sources: np.ndarray) -> np.ndarray:
    if targets is None:
        return np.argsort(-before, axis=1)[:, 1]
    aims = np.broadcast_to(np.asarray(targets), sources.shape)
    classes = before.shape[1]
    if aims.dtype.kind not in "iu" or aims.min() < 0 or aims.max() >= classes:
        raise ValueError(f"targets are numbers of classes, 0 to {classes - 1}, got {targets!r}")
    same = np.flatnonzero(aims == sources)
    if same.size:
        raise ValueError(f"input {same[0]} is class {aims[same[0]]} for the network already; choose another target")
    return aims.astype(int)


def _smallest(tried: np.ndarray, says: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each row the smallest budget that succeeded, or the last; and whether any did."""
    reached = np.asarray(says.any(axis=1))
    return np.where(reached, tried[np.arange(len(tried)), says.argmax(axis=1)], tried[:, -1]), reached


def _noise(
    network: Network, given: np.ndarray, lengths: np.ndarray, sources: np.ndarray, count: int, key: jax.Array
) -> np.ndarray:
    """The share of random changes of given lengths, directions uniform, after which the class is the same."""
    if not count:
        return np.full(len(given), np.nan)
    kept = []
    for index, (one, length) in enumerate(zip(given, lengths, strict=True)):
        draw = np.asarray(jax.random.normal(jax.random.fold_in(key, index), (count, *one.shape)))
        size = np.sqrt(np.sum(np.square(draw), axis=tuple(range(1, draw.ndim)), keepdims=True))
        shaken = np.clip(one + draw * (length / size), network.input.low, network.input.high).astype(np.float32)
        kept.append(np.mean(probabilities(network, shaken).argmax(axis=1) == sources[index]))
    return np.asarray(kept)
