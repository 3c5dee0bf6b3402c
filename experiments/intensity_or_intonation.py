"""Intensity or intonation: which contour of a voice does a classifier go by?

    python experiments/intensity_or_intonation.py --data-dir EMODB --networks runs/emotion/network
    python experiments/intensity_or_intonation.py --data-dir FSDD --data-set spoken_digits \
        --networks checkpoints/spoken_digits

The question of the mask-vector experiment of "Activation Maximization with a Prior in Speech Data" (2021). Recordings
that a classifier gets right are spoken again by Praat (extra "voice"): as they are, with a flat f0 at the loudness that
they had, with a flat level at the pitch that they had, and with both. Then three masks look for the least that is still
recognised: one over the f0 contour, one over the level, eight cells each, and S2's own, which is multiplied with the
input and climbs its class (experiments/mask_class.py).

A recording that is done is kept in OUT/sounds: the same command goes on after Ctrl-C or a kill. OUT/index.html is the
page, OUT/figures.json has all numbers.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.attribute import intonation
from nd_jax.experiments import intensity_or_intonation_page as page
from nd_jax.experiments import mask_class
from nd_jax.network import digest
from nd_jax.report import sheets
from nd_jax.runtime import progress_bar, require, script
from nd_jax.visualize import classes as by_class

# Seconds over which S2's mask is averaged.
_WIDTH = 0.08


@dataclasses.dataclass(frozen=True)
class Settings:
    """Which classifiers, which recordings, how fine, and where to put what was found."""

    data_dir: pathlib.Path
    """The files of a data set of speech."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    networks: tuple[str, ...] = ("checkpoints/spoken_digits",)
    """Classifiers of its classes: shipped names, or folders that Network.save wrote."""
    data_set: str = "emodb"
    """How to read data_dir."""
    split: str = "test"
    """Which part of the data set."""
    part: str | None = None
    """Which output, for classifiers with several."""
    sounds: int = 4
    """Of each class, of those that the classifier gets right."""
    cells: int = 8
    """Of the masks over a contour."""
    sure: float = 0.9
    """How probable the class must stay, or as it was when that is less."""
    steps: int = 200
    """Of S2's mask; 0 leaves it out."""
    out: pathlib.Path = pathlib.Path("out/intensity_or_intonation")
    """The folder to write; other files in it stay."""
    seed: int = 0
    """Of the choice of recordings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    for name, least in {"sounds": 1, "cells": 1, "steps": 0}.items():
        if getattr(settings, name) < least:
            raise ValueError(f"{name} must be {least} or more, got {getattr(settings, name)}")
    if not 0 < settings.sure <= 1:
        raise ValueError(f"sure is a probability above 0, got {settings.sure}")
    if not settings.networks:
        raise ValueError("networks names at least one classifier")
    require("parselmouth", "voice")
    folder = settings.out.expanduser() / "sounds"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [(name, *recordings(nd.load(name), settings)) for name in settings.networks]
    found = []
    with progress_bar(sum(len(rows) for _, _, rows in chosen), "recording") as tick:
        for name, network, rows in chosen:
            for title, wave, target in rows:
                found.append(answered(network, name, title, wave, target, settings, folder))
                tick(1)
    if not found:
        raise ValueError("the classifiers get none of these recordings right, so that there is nothing to ask")
    return page.write({name: network for name, network, _ in chosen}, found, settings)


def recordings(network: nd.Network, settings: Settings) -> tuple[nd.Network, list[tuple[str, np.ndarray, int]]]:
    """The network, and (name, samples, class) of what it gets right, at most `sounds` of each class.

    Raises:
      ValueError: a network that hears no sound, or a data set without its classes.
    """
    domain: Any = network.input
    if not domain.is_sound:
        raise ValueError(f"intonation is for networks that hear, and this one takes an input of kind {domain.kind!r}")
    clips: Any = nd.data.load(
        settings.data_set,
        settings.split,
        manual_dir=settings.data_dir,
        data_dir=settings.prepared_dir,
        sample_rate=domain.sample_rate,
    )
    names = by_class.class_names(network, settings.part)
    feature = next((each for each, known in clips.names.items() if set(names) <= set(known)), None)
    if feature is None:
        raise ValueError(f"{settings.data_set} has no feature with the classes {', '.join(names[:4])} of the network")
    labels = [clips.names[feature][number] for number in clips.features[feature]]
    order = np.random.default_rng(settings.seed).permutation(len(clips))
    found = []
    for target, name in enumerate(names):
        rows = [row for row in order.tolist() if labels[row] == name]
        if not rows:
            continue
        waves = [nd.data.arrays.as_float(clips.waves[row]) for row in rows]
        right = intonation.said(network, waves, domain.sample_rate, settings.part).argmax(axis=1) == target
        kept = [(row, wave) for row, wave, good in zip(rows, waves, right, strict=True) if good][: settings.sounds]
        found += [(pathlib.Path(clips.files[row]).stem, wave[: domain.samples], target) for row, wave in kept]
    return network, found


def answered(
    network: nd.Network,
    name: str,
    title: str,
    wave: np.ndarray,
    target: int,
    settings: Settings,
    folder: pathlib.Path,
) -> page.Answer:
    """Everything that is asked of one recording, from the disk where it is there."""
    deciding = {field: getattr(settings, field) for field in ("part", "cells", "sure", "steps")}
    told = json.dumps([digest(network), target, deciding], sort_keys=True).encode()
    mixed = hashlib.sha256(told + np.ascontiguousarray(wave, np.float32).tobytes()).hexdigest()[:16]
    path = folder / f"{title}-{mixed}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return page.Answer(name, title, target, dict(stored))
    domain: Any = network.input
    voice = nd.attribute.speech(wave, domain.sample_rate)
    ways: dict[str, dict[str, float]] = {
        "again": {},
        "intonation": {"intonation": 0.0},
        "intensity": {"intensity": 0.0},
        "both": {"intonation": 0.0, "intensity": 0.0},
    }
    waves = {"whole": wave} | {way: voice.remade(**masks) for way, masks in ways.items()}
    said = intonation.said(network, list(waves.values()), domain.sample_rate, settings.part)
    arrays: dict[str, Any] = {f"{way}/wave": each for way, each in waves.items()}
    arrays |= {f"{way}/says": each for way, each in zip(waves, said, strict=True)}
    arrays |= {"seconds": voice.seconds, "f0": voice.f0, "level": voice.level}
    for contour in intonation.CONTOURS:
        mask = nd.attribute.contour_mask(
            network, voice, target, contour, cells=settings.cells, sure=settings.sure, part=settings.part
        )
        arrays |= {
            f"{contour}/mask": mask.mask,
            f"{contour}/used": mask.used,
            f"{contour}/kept": np.asarray(mask.kept),
            f"{contour}/chances": mask.chances,
            f"{contour}/masked": mask.wave,
        }
    if settings.steps:
        least = mask_class.masked(
            network, intonation.heard(network, [wave], domain.sample_rate)[0], target, _s2(network, settings)
        )
        arrays |= {
            "s2/mask": np.asarray(least.mask),
            "s2/kept": np.asarray(least.level(np.asarray(domain.silence()))),
            "s2/says": least.kept_chances,
        }
    with sheets.drafted(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, **arrays)
    return page.Answer(name, title, target, arrays)


def _s2(network: nd.Network, settings: Settings) -> mask_class.Settings:
    """S2's mask over time: a number a frame, or a sample, averaged over 80 ms."""
    domain: Any = network.input
    if domain.kind == "waveform":
        per: Any = "sample"
        width = round(_WIDTH * domain.sample_rate)
    else:
        per, width = "frame", max(1, round(_WIDTH / domain.seconds_per_frame))
    return mask_class.Settings(per=per, width=width, steps=settings.steps, sure=settings.sure, part=settings.part)


if __name__ == "__main__":
    sys.exit(main())
