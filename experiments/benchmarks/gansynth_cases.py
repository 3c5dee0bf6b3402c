"""GANSynths that `benchmark_gansynth.py` samples from and trains on both sides."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.audio import MelIF
from nd_jax.domain import Label, Latent, Parts
from nd_jax.domain import MelIF as MelIFDomain
from nd_jax.domain.playing import sounds
from nd_jax.experiments.configs.gansynth import GansynthNotes, GansynthNsynth
from nd_jax.networks.gansynth import Discriminator, Generator
from nd_jax.training import gan, gansynth, parallel
from nd_jax.training.gan.state import initial_state
from nd_jax.training.losses import cross_entropy


@dataclasses.dataclass(frozen=True)
class GansynthCase:
    """A GANSynth with random weights.

    Attributes:
      title: one line.
      generator, discriminator: all blocks grown.
      transform: from pictures to sound.
      notes: made at once.
      batch: real notes of a training step.
      settings: of the training, the official ones.
      fast: times real time that is asked of sampling; None where nothing is.
    """

    title: str
    generator: Generator
    discriminator: Discriminator
    transform: MelIF
    notes: int
    batch: int
    settings: gan.Settings
    fast: float | None = None

    @functools.cached_property
    def variables(self) -> tuple[Any, Any]:
        """Of generator and discriminator."""
        keys = jax.random.split(jax.random.key(0))
        real = jnp.zeros((2, *self.transform.shape))
        given = {"z": jnp.zeros((2, self.generator.latent)), "label": jnp.zeros(2, jnp.int32)}
        return jax.jit(self.generator.init)(keys[0], given), jax.jit(self.discriminator.init)(keys[1], real)

    @functools.cached_property
    def network(self) -> nd.Network:
        """The generator, ready to be sampled from."""
        pitches = Label(tuple(f"{pitch}" for pitch in range(self.generator.classes)))
        given = Parts({"z": Latent(self.generator.latent), "label": pitches})
        return nd.Network(self.generator, self.variables[0], given, MelIFDomain(self.transform))

    def given(self) -> dict[str, np.ndarray]:
        """What is sampled."""
        return generators.inputs(self.network, 0, self.notes)

    def pictures(self) -> np.ndarray:
        """(notes, frames, bands, 2)."""
        return generators.make(self.network, self.given())

    def waves(self) -> np.ndarray:
        """(notes, samples): the whole way."""
        return np.stack([sound.wave for sound in sounds(self.network.output, self.pictures()) or ()])

    def draws(self, batch: int) -> dict[str, np.ndarray]:
        """What a training step is made of; see `torch_gansynth.Training`."""
        rng = np.random.default_rng(0)
        low, high = self.network.output.limits  # type: ignore[attr-defined]
        classes = self.generator.classes
        return {
            "real": rng.uniform(low, high, (batch, *self.transform.shape)).astype(np.float32),
            "label": rng.integers(0, classes, batch).astype(np.int32),
            "z": rng.normal(size=(batch, self.generator.latent)).astype(np.float32),
            "asked": rng.integers(0, classes, batch).astype(np.int32),
            "share": rng.uniform(size=batch).astype(np.float32),
        }

    def gradients(self, draws: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Of generator and discriminator at the same weights, {"block1_conv0_kernel": ...}."""
        rules, (maker, judge) = self._rules(dataclasses.replace(self.settings, train_mode=False)), self.variables
        given = {"z": draws["z"], "label": draws["asked"]}
        keys = jax.random.split(jax.random.key(0), len(draws["z"]))

        def generator_loss(params: Any) -> jax.Array:
            said = self.discriminator.apply(judge, self.generator.apply({"params": params}, given), train=True)
            fooled = jnp.mean(cross_entropy(said["label"], draws["asked"]))  # type: ignore[index]
            return self.settings.class_weight * fooled - jnp.mean(said["score"])  # type: ignore[index]

        def discriminator_loss(params: Any) -> jax.Array:
            fakes = self.generator.apply(maker, given)
            kept = {"keys": keys, "share": draws["share"], "label": draws["asked"]}
            return rules.criticise(params, {}, draws["real"], fakes, draws["label"], kept)[0]  # type: ignore[arg-type]

        made = (
            jax.jit(jax.grad(generator_loss))(maker["params"]),
            jax.jit(jax.grad(discriminator_loss))(judge["params"]),
        )
        return _named(made[0]), _named(made[1])

    def _rules(self, settings: gan.Settings) -> gansynth.Growing:
        """Those of the last stage, everything grown."""
        draws = self.draws(2 * self.batch)
        task = gan.GanTask(
            {"x": draws["real"], "label": draws["label"]},
            lambda key, note: {"x": note["x"], "label": note["label"]},
            self.network.output,
            self.generator.latent,
            labels=self.network.input["label"].names,  # type: ignore[index]
            pairs=False,
        )
        stages = gansynth.Stages(stable=1, fade=1, total=10**9, batch_sizes=(self.batch,))
        adam = gansynth.tensorflow_adam(settings.beta1, settings.beta2)
        return gansynth.Growing(
            self.generator,
            self.discriminator,
            task,
            settings,
            (adam, adam),
            stages=stages,
            stage=stages.plan(self.generator.blocks)[-1],
            counts=np.ones(self.generator.classes),
        )


class OurStep:
    """Our training step, compiled, with its state."""

    def __init__(self, case: GansynthCase):
        settings = dataclasses.replace(case.settings, batch_size=case.batch)
        rules, first = case._rules(settings), jax.local_devices()[:1]
        players = case.generator, case.discriminator, rules.task, settings, rules.optimizers
        self.state = parallel.replicate(initial_state(*players), first)
        rows = np.arange(case.batch).reshape(1, 1, -1)
        arrays = {name: values[rows] for name, values in rules.task.arrays.items()}
        self.batch = parallel.place({**arrays, "index": rows}, first)
        run = parallel.data_parallel(gan.make_step(rules), first)
        began = time.perf_counter()
        self.run = run.lower(self.state, self.batch).compile()
        self.compile_seconds = time.perf_counter() - began

    def step(self) -> None:
        """Runs a step to its end."""
        self.state, metrics = self.run(self.state, self.batch)
        jax.block_until_ready(metrics)


def _named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]
    return {"_".join(part.key for part in path): leaf for path, leaf in leaves}


def gansynth_cases(tiny: bool) -> dict[str, GansynthCase]:
    """By name: "official" and "small", the recipe gansynth-notes."""
    nowhere = pathlib.Path()  # no data are read: the recipes give sizes
    if tiny:
        recipe = GansynthNotes(
            nowhere, blocks=2, frames=8, n_fft=32, samples_long=64, latent=4, fmap_base=16, fmap_max=8
        )
        return {name: _case(name, recipe, 3, 2) for name in ("official", "small")}
    return {
        "official": _case("Official size", GansynthNsynth(nowhere), 16, 4, 10.0),
        "small": _case("The size of `gansynth-notes`", GansynthNotes(nowhere), 64, 8),
    }


def _case(title: str, recipe: GansynthNotes, notes: int, batch: int, fast: float | None = None) -> GansynthCase:
    domain = recipe.domain
    frames, bands, _ = domain.shape
    title += f", pictures of {frames} x {bands} x 2, notes of {domain.samples / domain.sample_rate:.2f} s"
    return GansynthCase(title, *recipe.players(), domain.transform, notes, batch, gansynth.SETTINGS, fast)
