"""Which part of a sound does a classifier need to recognise it? A mask over the input is optimised in its place.

    python experiments/mask_class.py                                     # spoken digits that the mel GAN makes
    python experiments/mask_class.py --data-dir recordings --data-set spoken_digits
    python experiments/mask_class.py --per band --width 3                # which mel bands instead of which moments

The mask-vector experiment that "Activation Maximization with a Prior in Speech Data" (2021) left in progress: a given
sound x stays as it is, a mask m is free, one number a frame or band, averaged over `width` neighbours, and m * x +
(1 - m) * silence climbs the objective of its class, the logit minus the mean of the others. Every lane of one sound
pays another price for what it keeps; of the lanes that are still recognised, the one that keeps least counts.

About 2 minutes on 2 idle cores for 20 sounds. Expect: about half of what sounds in a digit is enough; the same mask
moved along the axis, which says how much the choice matters, is recognised in 3 of 10 cases (docs/generator_priors.md).

OUT/index.html is the page with the kept and the removed part of each sound, OUT/figures.json has all numbers. Sounds
that are done are kept in OUT/results: the same command goes on where it was stopped.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.experiments import mask_class_page as page
from nd_jax.experiments import records
from nd_jax.network import digest_with
from nd_jax.runtime import script
from nd_jax.visualize import classes as by_class

# Shares of the sound's own margin that keeping all of it costs, a lane each.
PRICES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_SEARCHED = 16


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which sounds, what kind of mask, and where to put what was found."""

    network: str = "checkpoints/spoken_digits"
    """A classifier: a shipped name, or a folder that Network.save wrote."""
    generator: str = "checkpoints/conditional_mel_gan"
    """Makes the sounds when there is no data_dir."""
    data_dir: pathlib.Path | None = None
    """The files of a data set whose sounds are taken instead."""
    data_set: str = "spoken_digits"
    """How to read data_dir."""
    split: str = "test"
    """Which part of the data set."""
    classes: tuple[str, ...] = ()
    """Names or numbers of classes; by default all."""
    part: str | None = None
    """Which output, for a classifier with several."""
    sounds: int = 2
    """Of each class, of those that the classifier gets right."""
    per: Literal["frame", "band", "cell", "sample"] = "frame"
    """What one number of the mask is for."""
    width: int = 5
    """Of the moving average, in numbers of the mask."""
    smooth: float = 1.0
    """What the mean step of the mask from one number to the next costs, beside what its area costs."""
    bounds: Literal["sigmoid", "none"] = "sigmoid"
    """Keep the mask in 0 ... 1, or leave it free, as the source has it: then it may also turn up."""
    steps: int = 200
    """Of each lane."""
    learning_rate: float = 0.1
    """Of Adam."""
    sure: float = 0.9
    """How probable the class must still be, or as it was with the whole sound when that is less."""
    out: pathlib.Path = pathlib.Path("out/mask_class")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    for name, least in {"sounds": 1, "steps": 1}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be {least} or more, got {getattr(settings, name)}")
    network = nd.load(settings.network)
    given = [int(name) if name.isdecimal() else name for name in settings.classes] or None
    targets = by_class.class_indices(network, given, settings.part)
    made = {target: _inputs(network, int(target), settings) for target in targets.tolist()}
    found = []
    kept = settings.out.expanduser() / "results"
    with nd.runtime.progress_bar(sum(map(len, made.values())), "sound") as tick:
        for target, inputs in made.items():
            for x in inputs:
                found.append(_kept(network, x, target, settings, kept))
                tick(1)
    if not found:
        raise ValueError("the classifier gets none of these sounds right, so that there is nothing to take away from")
    return page.write(network, found, settings)


def _kept(network: nd.Network, x: np.ndarray, target: int, settings: Settings, folder: pathlib.Path) -> page.Masked:
    """What `masked` finds, from disk where a run that was killed, or another with more sounds, has it."""
    places = ("network", "generator", "data_dir", "data_set", "split", "classes", "sounds", "out")
    deciding = {name: value for name, value in dataclasses.asdict(settings).items() if name not in places}
    path = folder / f"{target}-{digest_with(network, [target, deciding], x)}.npz"
    if path.is_file():
        fields = records.read(page.Masked, path, "its sound is")
        return page.Masked(**{**fields, "target": int(fields["target"])})
    found = masked(network, x, target, settings)
    records.save(found, path)
    return found


def masked(network: nd.Network, x: np.ndarray, target: int, settings: Settings) -> page.Masked:
    """The least of one input that is still recognised."""
    whole = by_class.said(network, x[None], settings.part)[0]
    margin = float(_margin(network, x, target, settings))
    mask = nd.parameterizations.mask(x, per=settings.per, width=settings.width, start=0.9, bounds=settings.bounds)
    result = nd.visualize_batch(
        network,
        nd.objectives.class_margin([target] * len(PRICES), part=settings.part),
        key=jax.random.key(settings.seed),
        parameterization=mask,
        penalties=[nd.penalties.mask_area(), nd.penalties.mask_variation(settings.smooth)],
        scale=np.asarray(PRICES) * max(margin, 1e-3),
        optimizer=nd.visualize.adam(settings.learning_rate),
        transforms=(),
        steps=settings.steps,
        snapshots=0,
        restarts=0,
        progress=False,
    )
    masks = np.asarray(jax.vmap(lambda free: mask.mask(free, network.input))(result.parameters))
    kept = np.asarray(result.inputs)
    chances = by_class.said(network, kept, settings.part)
    areas = np.abs(masks).reshape(len(masks), -1).mean(axis=1)
    # The whole sound stands for a lane that keeps everything, so that there always is one.
    enough = min(settings.sure, float(whole[target]))
    good = [lane for lane in range(len(masks)) if chances[lane, target] >= enough]
    best = min(good, key=lambda lane: areas[lane]) if good else -1
    chosen = masks[best] if good else np.ones_like(masks[0])
    put = jax.jit(lambda m: _put(mask, m, x, network.input))
    draw = np.random.default_rng(settings.seed)
    size = chosen.shape[0]
    moves = draw.integers(max(1, size // 8), max(2, size - size // 8), 16) if size > 1 else np.ones(1, int)
    moved = np.stack([np.asarray(put(np.roll(chosen, move, axis=0))) for move in moves])
    removed = np.asarray(put(1.0 - chosen))
    return page.Masked(
        target=target,
        x=x,
        mask=chosen,
        kept=kept[best] if good else x,
        removed=removed,
        whole=whole,
        kept_chances=chances[best] if good else whole,
        removed_chances=by_class.said(network, removed[None], settings.part)[0],
        moved_chances=by_class.said(network, moved, settings.part),
        areas=areas,
        chances=chances[:, target],
    )


def _margin(network: nd.Network, x: np.ndarray, target: int, settings: Settings) -> np.ndarray:
    chances = np.log(np.maximum(by_class.said(network, x[None], settings.part)[0], 1e-12))
    # Log-probabilities differ from logits by a constant, which a margin does not know.
    return chances[target] - np.delete(chances, target).mean()


def _put(mask: Any, values: jax.Array, x: np.ndarray, domain: nd.domain.Domain) -> jax.Array:
    """The input under given values of the averaged mask."""
    spread = mask.spread(values, domain)
    return spread * x + (1.0 - spread) * domain.silence()


def _inputs(network: nd.Network, target: int, settings: Settings) -> np.ndarray:
    """Inputs of a class that the classifier gets right, at most `sounds` of them."""
    name = by_class.class_names(network, settings.part)[target]
    if settings.data_dir is not None:
        candidates = _recordings(network, name, settings)
    else:
        candidates = _samples(network, name, settings)
    if not len(candidates):
        return candidates
    right = by_class.said(network, candidates, settings.part).argmax(axis=1) == target
    return candidates[right][: settings.sounds]


def _samples(network: nd.Network, name: str, settings: Settings) -> np.ndarray:
    generator = nd.load(settings.generator)
    names = generators.classes_of(generator)
    if names and name not in names:
        raise ValueError(f"the generator cannot be asked for {name!r}; {nd.runtime.nearest(name, names)}")
    count = _SEARCHED if names else _SEARCHED * len(by_class.class_names(network, settings.part))
    given = generators.inputs(generator, settings.seed, max(count, settings.sounds), labels=[name] if names else [])
    convert = nd.domain.converter(generator.output, network.input)
    return np.asarray(jax.vmap(convert)(generators.make(generator, given)))


def _recordings(network: nd.Network, name: str, settings: Settings) -> np.ndarray:
    domain: Any = network.input
    rate = getattr(domain, "sample_rate", None)
    clips = nd.data.load(settings.data_set, settings.split, manual_dir=settings.data_dir, sample_rate=rate)
    known = set(by_class.class_names(network, settings.part))
    feature = next((each for each, names in clips.names.items() if known <= set(names)), None)
    if feature is None:
        raise ValueError(f"{settings.data_set} has no feature with the classes {sorted(known)[:4]} ... of the network")
    rows = np.flatnonzero(clips.features[feature] == list(clips.names[feature]).index(name))
    rows = np.random.default_rng(settings.seed).permutation(rows)[: max(_SEARCHED, settings.sounds)]
    found = clips.select(np.sort(rows))
    if not domain.is_sound:
        return np.asarray(found.fixed(domain.low, domain.high))
    waves = np.stack([nd.audio.fit(found.wave(row), domain.samples, policy="pad") for row in range(len(found))])
    return np.asarray(domain.from_wave(waves))


if __name__ == "__main__":
    sys.exit(main())
