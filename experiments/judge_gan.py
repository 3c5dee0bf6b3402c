"""Measures the samples of a generator: what a classifier of our own says of them, and how near they are to real ones.

    python experiments/judge_gan.py --generator runs/dcgan_mnist/generator --data-dir MNIST --judge checkpoints/mnist
    python experiments/judge_gan.py --generator runs/mel_gan/generator --data-dir FSDD --judge checkpoints/spoken_digits
    python experiments/judge_gan.py --generator checkpoints/notes_gansynth --data-dir NOTES --judge notes_judge:pitch

Every figure stands beside that of real examples that nobody was trained on and that of the untrained generator. Notes
are also measured by their pitch (experiments/judge_notes.py). Writes figures.json beside the generator, or where --out
says.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax import generators, metrics
from nd_jax.domain import Domain, Image, LogMel, MelIF, Waveform, converter
from nd_jax.experiments import judge_notes_table
from nd_jax.experiments.configs.gans import GanExperiment
from nd_jax.experiments.configs.gansynth import GansynthExperiment, recipe_of
from nd_jax.runtime import nearest, script
from nd_jax.training import gan
from nd_jax.training.gan.loop import Watcher

_GLANCE = 500
SEED = 0
_LEAST = 20
# Mel-IF pictures that are made into sound at once.
_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and against what."""

    generator: pathlib.Path
    """The folder of a generator."""
    data_dir: pathlib.Path
    """The folder with the data set that it was trained on, as downloaded."""
    judge: str
    """The classifier: a network's folder or the name of a shipped one; of several heads one, as notes_judge:pitch."""
    out: pathlib.Path | None = None
    """The file to write; by default figures.json beside the generator's folder."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    samples: int = 1000
    """So many samples are measured."""


@dataclasses.dataclass(frozen=True)
class Judge:
    """A classifier that listens to what a generator makes.

    Attributes:
      network: a classifier.
      domain: what the generator makes.
      layer: whose outputs are the features.
      head: of several outputs, the one that is listened to.
    """

    network: nd.Network
    domain: Domain
    layer: str
    head: str = ""

    @classmethod
    def load(cls, name: str, domain: Domain) -> Judge:
        """Loads a classifier and checks that it can judge examples of a domain.

        Args:
          name: of a shipped network or its folder; of several heads one is named, as notes_judge:pitch.
          domain: what the generator makes.

        Raises:
          ValueError: it takes something else, or has several heads and none is named; one sentence.
          NetworkFileError: there is none.
        """
        place, _, head = name.rpartition(":") if ":" in name else (name, "", "")
        network = nd.load(place)
        try:
            named = metrics.labels_of(network, head)
        except ValueError as error:
            raise ValueError(f"{name} cannot judge: {error}, as in {place}:HEAD") from None
        if not named:
            raise ValueError(f"{name} cannot judge: a judge has a head with named classes")
        taken = network.input
        heard = isinstance(taken, LogMel) and (
            isinstance(domain, MelIF) or (isinstance(domain, Waveform) and domain.sample_rate == taken.sample_rate)
        )
        if not heard and (type(taken) is not type(domain) or taken.to_dict() != domain.to_dict()):
            raise ValueError(
                f"{name} cannot judge these examples: it takes {taken.kind} of shape {taken.shape}, and they are "
                f"{domain.kind} of shape {domain.shape} or of another scale"
            )
        return cls(network, domain, _features_of(network), head)

    @property
    def name(self) -> str:
        """As `load` takes it, where it is a shipped one."""
        return str(self.network.card.get("name", "")) + (f":{self.head}" if self.head else "")

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes that it tells apart."""
        return metrics.labels_of(self.network, self.head)

    def classes(self, names: Sequence[str], numbers: Any) -> np.ndarray:
        """Numbers of classes named by the generator -> numbers of the judge's classes of these names.

        Raises:
          ValueError: it knows no class of a name.
        """
        labels = self.labels
        missing = [name for name in names if name not in labels]
        if missing:
            raise ValueError(f"{self.name or 'the judge'} knows no class {missing[0]!r}; {nearest(missing[0], labels)}")
        return np.asarray([labels.index(name) for name in names])[np.asarray(numbers)]

    def hear(self, x: np.ndarray) -> metrics.Heard:
        """Examples (n, *domain.shape) -> what the network says of them, and its features."""
        return metrics.hear(self.network, self.given(x), self.layer, head=self.head)

    def given(self, x: Any) -> Any:
        """Examples (n, *domain.shape) -> what the network takes, (n, *network.input.shape)."""
        taken = self.network.input
        if isinstance(self.domain, MelIF) and isinstance(taken, LogMel):
            convert = jax.jit(jax.vmap(converter(self.domain, taken)))
            size = min(_AT_ONCE, len(x))
            rows = [np.resize(np.arange(at, min(at + size, len(x))), size) for at in range(0, len(x), size)]
            return np.concatenate([np.asarray(convert(np.asarray(x)[each])) for each in rows])[: len(x)]
        if not (isinstance(self.domain, Waveform) and isinstance(taken, LogMel)):
            return x
        return np.concatenate([_heard(x[at : at + 100, :, 0], taken) for at in range(0, len(x), 100)])

    def watcher(self, known: Mapping[str, np.ndarray]) -> Watcher:
        """What is called while a GAN is trained, and measures 500 samples of the same latents.

        Args:
          known: {"x": (m, *domain.shape)} examples that training knows.
        """
        made: list[Watcher] = []

        def look(step: int, generator: nd.Network, discriminator: nd.Network) -> Mapping[str, float] | None:
            if not made:
                inputs = generators.inputs(generator, SEED, _GLANCE)
                heard = self.hear(known["x"])
                made.append(
                    metrics.watcher(self.network, self.layer, heard, inputs, head=self.head, to_judge=self.given)
                )
            return made[0](step, generator, discriminator)

        return look


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, tell=None)


def run(settings: Settings) -> dict[str, Any]:
    """Measures a generator, prints the table, writes the file; returns what it holds."""
    generator = nd.load(settings.generator)
    judge = Judge.load(settings.judge, generator.output)
    experiment = _recipe(generator, settings).experiment()
    found = measured(experiment, generator, judge, settings.samples)
    out = settings.out or pathlib.Path(settings.generator).parent / "figures.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"generator": str(settings.generator), **found}, indent=1) + "\n")
    print(table(found))
    print(out)
    return found


def measured(
    experiment: GanExperiment,
    generator: nd.Network,
    judge: Judge,
    count: int,
    held_out: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """All figures of a trained generator: of notes what `judge_notes` measures, else what `figures_of` does.

    Args:
      experiment: what was trained.
      generator: what came of it.
      judge: who says so.
      count: samples to draw.
      held_out: as of `real`, when they are there already.
    """
    from nd_jax.experiments import judge_notes

    if isinstance(experiment, GansynthExperiment):
        found = judge_notes.figures_of(experiment, generator, judge, count)
        return {**found, "explained": judge_notes_table.explained(found)}
    apart = held_out if held_out is not None else real(experiment, count)
    return figures_of(generator, judge, real(experiment, known=True), apart, count)


def table(found: Mapping[str, Any]) -> str:
    """The Markdown table of what `measured` found."""
    return judge_notes_table.table(found) if "notes" in found else metrics.judge_table(found)


def _recipe(generator: nd.Network, settings: Settings) -> Any:
    """The recipe that a generator was trained with, by its card's name; of an unknown name, by what it makes."""
    from nd_jax.experiments.configs import emotion_mel_gan, emotional_speech, mel_gans, mnist_gans, wavegan

    # Nothing is trained here, so any number of examples is enough for a batch.
    places = {
        "data_dir": settings.data_dir,
        "prepared_dir": settings.prepared_dir,
        "training": gan.Settings(batch_size=1),
    }
    made, classes = generator.output, generators.classes_of(generator)
    name = str(generator.card.get("name", ""))
    if name.startswith(emotion_mel_gan.EmotionMelGan.family):
        levels = "source" if made.to_dict() == emotional_speech.source_domain().to_dict() else "fixed"
        return emotion_mel_gan.EmotionMelGan(
            **places, data_set=name.removeprefix(f"{emotion_mel_gan.EmotionMelGan.family}_"), levels=levels
        )
    if name in (mnist_gans.DcganMnistSource.family, mnist_gans.WganMnistSource.family):
        return mnist_gans.DcganMnistSource(**places)
    if isinstance(made, Image):
        return mnist_gans.DcganMnist(**places)
    if isinstance(made, Waveform):
        recipe = wavegan.ConditionalWavegan if classes else wavegan.Wavegan
        return recipe(**places, length=made.samples)
    if isinstance(made, LogMel):
        return mel_gans.ConditionalMelGan(**places) if classes else mel_gans.MelGan(**places)
    if isinstance(made, MelIF):
        return recipe_of(generator, **places)
    raise ValueError(f"no recipe makes {made.kind} examples")


def real(
    experiment: GanExperiment, count: int | None = None, *, known: bool = False, draw: int = 0
) -> dict[str, np.ndarray]:
    """Real examples as the discriminator sees them: held-out ones, or those that training knows.

    Args:
      experiment: the training.
      count: at most so many, the first ones of a fixed shuffle; None for all.
      known: whether they are training examples.
      draw: the number of a drawing, where training changes its examples at random; another one, other changes.

    Returns:
      {"x": (n, *domain.shape), and "label": (n,) of a GAN with classes}.

    Raises:
      ValueError: there are too few.
    """
    arrays = experiment.task.arrays if known else experiment.held_out
    total = len(next(iter(arrays.values())))
    count = total if count is None else min(total, count)
    if count < _LEAST:
        raise ValueError(
            f"{count} {'training' if known else 'held-out'} examples are too few to measure by: {_LEAST} "
            'or more are needed; --judge "" measures nothing'
        )
    chosen = np.sort(np.random.default_rng(0).permutation(total)[:count])
    prepare = jax.jit(jax.vmap(experiment.task.prepare))
    keys = jax.random.split(jax.random.key(draw), len(chosen))
    parts = []
    for start in range(0, len(chosen), 100):
        rows = chosen[start : start + 100]
        given = prepare(keys[start : start + 100], {name: values[rows] for name, values in arrays.items()})
        parts.append(jax.device_get(given if isinstance(given, Mapping) else {"x": given}))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# --- what is measured -------------------------------------------------------------------------------------------------


def figures_of(
    generator: nd.Network, judge: Judge, known: Mapping[str, np.ndarray], held_out: Mapping[str, np.ndarray], count: int
) -> dict[str, Any]:
    """All figures of a generator's samples beside those of held-out real examples and of the untrained generator.

    Args:
      generator: what is measured.
      judge: who says so.
      known: {"x": (m, *domain.shape)} examples that training knows: what all rows are compared with.
      held_out: {"x": (n, *domain.shape)} real and unknown to training.
      count: samples to draw.

    Returns:
      What `nd.metrics.judge` gives, and {"judge", "layer", "seed"}.
    """
    given = generators.inputs(generator, SEED, count)
    made, before = (generators.make(one, given) for one in (generator, untrained(generator)))
    record = metrics.judge(
        judge.hear(known["x"]),
        judge.hear(held_out["x"]),
        judge.hear(made),
        jax.random.key(SEED),
        untrained=judge.hear(before),
        labels=judge.labels,
        asked=judge.classes(generators.classes_of(generator), given["label"]) if isinstance(given, Mapping) else None,
    )
    return {"judge": judge.name, "layer": judge.layer, "seed": SEED, **record}


def untrained(generator: nd.Network) -> nd.Network:
    """The same generator before its first step."""
    module, example = generator.module, generators.inputs(generator, SEED, 2)
    variables = jax.jit(lambda key, given: module.init(key, given, train=False))(jax.random.key(SEED), example)
    return dataclasses.replace(generator, variables=variables)


def _heard(wave: jax.Array, domain: LogMel) -> jax.Array:
    """Sound of any length in the middle of the judge's window: (n, samples) -> (n, *domain.shape)."""
    extra = domain.samples - wave.shape[1]
    if extra > 0:
        wave = jnp.pad(wave, ((0, 0), (extra // 2, extra - extra // 2)))
    start = max(-extra, 0) // 2
    return domain.from_wave(wave[:, start : start + domain.samples])


def _features_of(network: nd.Network) -> str:
    """The layer that the heads read: the last with one axis before the outputs."""
    flat = [name for name, shape in nd.taps.layers(network).items() if len(shape) == 1]
    heads = len(network.output.shape) if isinstance(network.output.shape, Mapping) else 1
    if len(flat) <= heads:
        raise ValueError("a judge needs a layer of units before its output, whose values are the features")
    return flat[-1 - heads]


if __name__ == "__main__":
    raise SystemExit(main())
