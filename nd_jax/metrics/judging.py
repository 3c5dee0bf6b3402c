"""The whole table: samples of a generator beside real examples, as a classifier of one's own hears them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nd_jax import generators, runtime, taps
from nd_jax.metrics import sets
from nd_jax.metrics.bins import kmeans, ndb
from nd_jax.metrics.frechet import LEAST, frechet_infinity
from nd_jax.metrics.intervals import jackknife
from nd_jax.metrics.kernel import bandwidth, kernel_distance, kernel_interval, permutation_test
from nd_jax.metrics.neighbours import density_coverage, memorisation
from nd_jax.metrics.scores import class_shares, confident_share, inception_score, prediction_entropy
from nd_jax.network import Network
from nd_jax.proportions import in_words, p_in_words, proportion


@dataclasses.dataclass(frozen=True)
class Heard:
    """A set as a classifier hears it.

    Attributes:
      probabilities: (n, classes).
      features: (n, d), of one layer.
    """

    probabilities: np.ndarray
    features: np.ndarray

    def __post_init__(self) -> None:
        if len(self.probabilities) != len(self.features):
            raise ValueError(f"{len(self.probabilities)} probabilities are given, and {len(self.features)} features")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, rows: Any) -> Heard:
        return Heard(self.probabilities[rows], self.features[rows])


def hear(network: Network, x: Any, layer: str, *, head: str = "", batch_size: int = 256) -> Heard:
    """What a classifier says of some examples, and what one of its layers makes of them.

    Args:
      network: a classifier whose output is one row of logits, or several with names.
      x: (n, *network.input.shape).
      layer: whose outputs are the features, averaged over all axes but the batch and the last; the one before the
        logits is the usual choice.
      head: of several outputs, the one that is listened to.
      batch_size: examples at a time; the last batch is filled up, so that one program is compiled.

    Returns:
      A `Heard`, in float64.

    Raises:
      ValueError: no examples, inputs that do not fit, several outputs and none of them named; `LayerError` for an
        unknown layer.
    """
    taps.layer_shape(network, layer)
    labels_of(network, head)
    given = np.asarray(x)
    network.check_batch(given)
    if not len(given) or batch_size < 1:
        raise ValueError(
            f"x must hold 1 example or more and batch_size be 1 or more, got {len(given)} and {batch_size}"
        )
    parts = []
    for start in range(0, len(given), batch_size):
        part = given[start : start + batch_size]
        padded = np.concatenate([part, np.repeat(part[-1:], batch_size - len(part), 0)])
        parts.append([np.asarray(values, np.float64)[: len(part)] for values in _hear(network, padded, layer, head)])
    probabilities, features = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Heard(probabilities, features)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _hear(network: Network, x: jax.Array, layer: str, head: str) -> tuple[jax.Array, jax.Array]:
    features = taps.read(network, x, [layer])[layer]
    said = network(x)
    logits = said[head] if head else said
    return jax.nn.softmax(logits), features.reshape(len(x), -1, features.shape[-1]).mean(axis=1)


def labels_of(network: Network, head: str = "") -> tuple[str, ...]:
    """The names of the classes that a judge tells apart; () where they have none.

    Args:
      network: a classifier.
      head: of several outputs, the one that is listened to.

    Raises:
      ValueError: several outputs and no head, no such head, or an output that is no row of logits; one sentence.
    """
    shape = network.output.shape
    if isinstance(shape, Mapping):
        if head not in shape:
            asked = (
                f"it has no output {head!r}; {runtime.nearest(head, sorted(shape))}"
                if head
                else "name the one that judges"
            )
            raise ValueError(f"the network has the outputs {', '.join(sorted(shape))}: {asked}")
        shape = shape[head]
    elif head:
        raise ValueError(f"the network has one output without a name, and not {head!r}")
    if len(shape) != 1:
        raise ValueError(f"a judge has one row of logits as its output, and this network's output has shape {shape}")
    return tuple(network.labels.get(head, ()) if isinstance(network.labels, Mapping) else network.labels)


def judge(
    train: Any,
    held_out: Any,
    generated: Any,
    key: Any,
    *,
    untrained: Any = None,
    labels: Sequence[str] = (),
    asked: Any = None,
    meant: Any = None,
    permutations: int = 999,
    confidence: float = 0.9,
    nearest: int = 5,
    bins: int | None = None,
    reference_limit: int = 10_000,
) -> dict[str, Any]:
    """Everything that can be said of a generator's samples, each number beside that of real ones.

    The reference of every distance is the training set; the row "real" is that of held-out real examples, so it shows
    what a perfect generator would get, with what the judge knows of its own training examples in it. Inception score,
    NDB and coverage depend on the number of examples: the row of real ones is cut, at random, to as many as there are
    samples; fewer held-out examples stay fewer, and `n` says so.

    Args:
      train: what the generator was trained on, a `Heard` or a pair (probabilities, features).
      held_out: real examples that neither generator nor judge was trained on.
      generated: the samples.
      key: jax key of subsets, bins and permutations.
      untrained: samples of the same generator before its first step, from the same latents.
      labels: names of the judge's classes.
      asked: (n,) the class that each sample was asked for, of a generator with classes, among those of the judge. The
        rarest class is then the rarest of these.
      meant: (held_out,) the class of every held-out example, for the same figure of real ones.
      permutations: of the permutation test, between a row and as many training examples.
      confidence: from which probability on the judge is sure.
      nearest: neighbours of density and coverage.
      bins: of NDB; by default as many as have about 20 examples in the smallest set, at most 100.
      reference_limit: training examples for distances and bins, drawn at random; memorisation looks at all.

    Returns:
      JSON-ready: {"rows": {"real", "generated", "untrained"}, "ratios": {"inception_score": generated / real,
      "kernel_distance": generated / untrained}, "settings"}. A Frechet distance of too few examples is
      {"refused": why}.

    Raises:
      ValueError: sets that do not fit each other, as the metrics; one sentence.
    """
    known = _heard("train", train)
    real, made = _heard("held_out", held_out, known), _heard("generated", generated, known)
    # At random: data sets lie in the order of their classes.
    draws = sets.draws(jax.random.fold_in(key, 0))
    kept = np.sort(draws.permutation(len(real))[: len(made)])
    to_rows = {"real": real[kept], "generated": made}
    if untrained is not None:
        to_rows["untrained"] = _heard("untrained", untrained, known)[: len(made)]
    wanted = {}
    if asked is not None:
        wanted["generated"] = _one_each("asked", asked, len(made), "sample")
    if meant is not None:
        wanted["real"] = _one_each("meant", meant, len(real), "example")[kept]
    reference = known.features[draws.permutation(len(known))[:reference_limit]]
    k = bins or int(np.clip(min(len(reference), *map(len, to_rows.values())) // 20, 2, 100))
    settings = {
        "train": len(known),
        "reference": len(reference),
        "held_out": len(real),
        "dimensions": reference.shape[1],
        "bandwidth": bandwidth(reference),
        "permutations": permutations,
        "confidence": confidence,
        "nearest": nearest,
        "bins": k,
    }
    centres = kmeans(reference, k, jax.random.fold_in(key, 1))
    among = np.unique(wanted["generated"]) if asked is not None else np.arange(known.probabilities.shape[1])
    rows = {name: _row(row, reference, centres, key, settings, labels, among) for name, row in to_rows.items()}
    for name in rows:
        if name != "real":
            found = memorisation(known.features, real.features, to_rows[name].features)
            rows[name]["memorisation"] = found.to_dict()
    for name, classes in wanted.items():
        rows[name]["asked"] = proportion(to_rows[name].probabilities.argmax(axis=1) == classes)
    ratios = {"inception_score": rows["generated"]["inception_score"] / rows["real"]["inception_score"]}
    if "untrained" in rows:
        ratios["kernel_distance"] = rows["generated"]["kernel_distance"] / rows["untrained"]["kernel_distance"]
    return {"rows": rows, "ratios": ratios, "settings": settings}


def _one_each(name: str, classes: Any, count: int, what: str) -> np.ndarray:
    if np.shape(classes) != (count,):
        raise ValueError(f"{name} must be ({count},), one class a {what}, got {np.shape(classes)}")
    return np.asarray(classes)


def _row(
    row: Heard,
    reference: np.ndarray,
    centres: np.ndarray,
    key: Any,
    settings: Mapping[str, Any],
    labels: Sequence[str],
    among: np.ndarray,
) -> dict[str, Any]:
    """What is said of one set: by the judge, and by distances from the training set."""
    shares = class_shares(row.probabilities, labels)
    smallest = min([list(shares)[number] for number in among], key=lambda label: shares[label]["value"])
    said, count = row.probabilities, len(row)
    score, entropy = inception_score(said), prediction_entropy(said)
    distance = kernel_distance(reference, row.features, bandwidth=settings["bandwidth"])
    as_many = reference[: len(row)]
    test = permutation_test(as_many, row.features, jax.random.fold_in(key, 2), settings["permutations"])
    return {
        "n": count,
        "inception_score": score,
        "entropy": entropy,
        "confident": confident_share(row.probabilities, settings["confidence"]),
        "classes": shares,
        "smallest_class": {"label": smallest, **shares[smallest]},
        "kernel_distance": distance,
        "kernel_p": test.p_value,
        "ndb": ndb(reference, row.features, centres=centres).to_dict(),
        **dataclasses.asdict(density_coverage(as_many, row.features, settings["nearest"])),
        "frechet_infinity": _frechet(reference, row.features, jax.random.fold_in(key, 3)),
        "intervals": {
            "inception_score": list(jackknife(lambda rows: inception_score(said[rows]), count, value=score)),
            "entropy": list(jackknife(lambda rows: prediction_entropy(said[rows]), count, value=entropy)),
            "kernel_distance": list(
                kernel_interval(reference, row.features, distance, bandwidth=settings["bandwidth"])
            ),
        },
    }


def _heard(name: str, given: Any, beside: Heard | None = None) -> Heard:
    said, features = (given.probabilities, given.features) if isinstance(given, Heard) else given
    found = Heard(
        sets.probabilities(said),
        sets.features(name, features, dimensions=beside.features.shape[1] if beside else None),
    )
    if beside and found.probabilities.shape[1] != beside.probabilities.shape[1]:
        classes, others = found.probabilities.shape[1], beside.probabilities.shape[1]
        raise ValueError(f"{name} has probabilities of {classes} classes, and the set beside it of {others}")
    return found


def _frechet(reference: np.ndarray, samples: np.ndarray, key: Any) -> dict[str, Any]:
    needed, there = LEAST * reference.shape[1], min(len(reference), len(samples))
    if there < needed:
        return {"refused": f"{there} examples of {reference.shape[1]} dimensions, and {needed} or more are needed"}
    return frechet_infinity(reference, samples, key).to_dict()


def judge_table(record: Mapping[str, Any]) -> str:
    """The record of `judge` as a Markdown table: a line a figure, a column a row of the record.

    Args:
      record: what `judge` returned, or what came back from its JSON.
    """
    rows = record["rows"]
    lines = [("", *rows), ("examples", *(f"{row['n']:,}" for row in rows.values()))]

    def add(name: str, words: Callable[[Mapping[str, Any]], str], present: str) -> None:
        if any(present in row for row in rows.values()):
            lines.append((name, *(words(row) if present in row else "" for row in rows.values())))

    sure = f"share with confidence above {record['settings']['confidence']:g}"
    add("inception score", lambda row: _between(row, "inception_score", ".2f"), "inception_score")
    add("entropy of what is heard (nats)", lambda row: _between(row, "entropy", ".3f"), "entropy")
    add(sure, lambda row: in_words(row["confident"]), "confident")
    add("rarest class", lambda row: f"{row['smallest_class']['label']}: {in_words(row['smallest_class'])}", "classes")
    add("asked class recognised", lambda row: in_words(row["asked"]), "asked")
    add("kernel distance (MMD²)", lambda row: _between(row, "kernel_distance", ".4f"), "kernel_distance")
    add("its permutation p", lambda row: p_in_words(row["kernel_p"]), "kernel_p")
    add("Fréchet distance, N → ∞", lambda row: _infinity(row["frechet_infinity"]), "frechet_infinity")
    add(
        "NDB (share of bins), JS",
        lambda row: f"{row['ndb']['different']} of {row['ndb']['k']}, {row['ndb']['jensen_shannon']:.3f}",
        "ndb",
    )
    add("density, coverage", lambda row: f"{row['density']:.2f}, {row['coverage']:.2f}", "density")
    add(
        "nearer to training than 95 % of held-out",
        lambda row: f"{100 * row['memorisation']['near']:.1f} % (p {p_in_words(row['memorisation']['near_p'])})",
        "memorisation",
    )
    ruler = ("---",) * len(lines[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ruler, *lines[1:]])


def _between(row: Mapping[str, Any], name: str, form: str) -> str:
    """A figure with its interval, where the record has one."""
    ends = row.get("intervals", {}).get(name)
    return format(row[name], form) + (f" ({ends[0]:{form}} to {ends[1]:{form}})" if ends else "")


def _infinity(found: Mapping[str, Any]) -> str:
    if "refused" in found:
        return "not given"
    return f"{found['value']:.3g} (N {found['examples']:,}, d {found['dimensions']})"


def watcher(
    network: Network,
    layer: str,
    reference: Any,
    latents: Any,
    *,
    head: str = "",
    to_judge: Callable[[Any], Any] = lambda samples: samples,
    confidence: float = 0.9,
) -> Callable[[int, Network, Network], dict[str, float]]:
    """A watcher for `nd_jax.training.gan.train`: what a classifier says of the generator while it learns.

    Args:
      network: the judge.
      layer: of the features, as in `hear`.
      reference: real examples as the judge hears them, a `Heard` or a pair (probabilities, features).
      latents: inputs of the generator, the same at every look (`nd_jax.generators.inputs` makes them).
      head: as in `hear`.
      to_judge: samples as the generator makes them -> inputs of the judge.
      confidence: from which probability on the judge is sure.

    Returns:
      (step, generator, discriminator) -> {"kernel_distance", "inception_score", "confident", "rarest_class"}, for the
      log.
    """
    real = _heard("reference", reference)
    scale = bandwidth(real.features)

    def watch(step: int, generator: Network, discriminator: Network) -> dict[str, float]:
        heard = hear(network, to_judge(generators.make(generator, latents)), layer, head=head)
        shares = class_shares(heard.probabilities)
        return {
            "kernel_distance": kernel_distance(real.features, heard.features, bandwidth=scale),
            "inception_score": inception_score(heard.probabilities),
            "confident": confident_share(heard.probabilities, confidence)["value"],
            "rarest_class": min(share["value"] for share in shares.values()),
        }

    return watch
