"""What a classifier says of a set: inception score, the shares of the classes, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from nd_jax.metrics import sets
from nd_jax.proportions import proportion


@overload
def inception_score(probabilities: Any) -> float: ...


@overload
def inception_score(probabilities: Any, splits: int) -> tuple[float, float]: ...


def inception_score(probabilities: Any, splits: int | None = None) -> float | tuple[float, float]:
    """exp of the mean over x of KL(p(y|x) || p(y)): 1 when all samples sound alike or undecided, at most `classes`.

    Source: Salimans et al. 2016, "Improved techniques for training GANs", section 4. With a classifier of one's own the
    number has no meaning without that of real data; it grows with n, so compare at one n.

    Args:
      probabilities: (n, classes), rows that sum to 1.
      splits: None for one score of all; a number for so many consecutive blocks of n // splits, the rest unused.

    Returns:
      The score; with `splits` the mean and the (population) standard deviation over the blocks. That is a spread
      between blocks, no interval of the score of all.

    Raises:
      ValueError: rows that are no probabilities, or more splits than examples.
    """
    given = sets.probabilities(probabilities)
    if splits is None:
        return _score(given)
    if not 1 <= splits <= len(given):
        raise ValueError(f"splits must be 1 ... {len(given)} (the number of examples), got {splits}")
    size = len(given) // splits
    scores = [_score(given[part * size : (part + 1) * size]) for part in range(splits)]
    return float(np.mean(scores)), float(np.std(scores))


def _score(given: np.ndarray) -> float:
    mean = given.mean(axis=0, keepdims=True)
    # 0 log 0 = 0; where p is above 0, so is the mean.
    ratio = np.divide(given, mean, out=np.ones_like(given), where=given > 0)
    return float(np.exp(np.mean(np.sum(given * np.log(ratio), axis=1))))


def prediction_entropy(probabilities: Any) -> float:
    """How undecided a classifier is of single examples: the mean entropy of p(y|x), in nats, 0 ... log(classes).

    The "pitch entropy" of Engel et al. 2019 (GANSynth), where the classes are pitches.

    Args:
      probabilities: (n, classes), rows that sum to 1.

    Raises:
      ValueError: rows that are no probabilities.
    """
    given = sets.probabilities(probabilities)
    return -float(np.mean(np.sum(given * np.log(np.where(given > 0, given, 1.0)), axis=1)))


def class_shares(probabilities: Any, labels: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The share of samples in which each class is the likeliest.

    Args:
      probabilities: (n, classes).
      labels: names of the classes; by default their numbers.

    Returns:
      {label: share with its 95 % Wilson interval}, in the order of the classes, JSON-ready.

    Raises:
      ValueError: rows that are no probabilities, or another number of labels.
    """
    given = sets.probabilities(probabilities)
    names = [str(label) for label in labels] or [str(number) for number in range(given.shape[1])]
    if len(names) != given.shape[1]:
        raise ValueError(f"{len(names)} labels are given, and the probabilities are of {given.shape[1]} classes")
    chosen = given.argmax(axis=1)
    return {name: proportion(chosen == number) for number, name in enumerate(names)}


def confident_share(probabilities: Any, above: float = 0.9) -> dict[str, Any]:
    """The share of samples to which the classifier gives some class with more than `above`.

    Args:
      probabilities: (n, classes).
      above: 0 ... 1.

    Returns:
      The share with its 95 % Wilson interval, JSON-ready.

    Raises:
      ValueError: rows that are no probabilities, or a threshold outside 0 ... 1.
    """
    if not 0 <= above <= 1:
        raise ValueError(f"above must be 0 ... 1, got {above}")
    return proportion(sets.probabilities(probabilities).max(axis=1) > above)
