"""Draws from a trained generator: a sheet of images, or sounds with a sheet of spectrograms and a page of players.

    python experiments/sample.py --network checkpoints/NAME                              # 64 samples
    python experiments/sample.py --network checkpoints/NAME --count 20 --labels 3 7      # classes in turn
    python experiments/sample.py --network checkpoints/NAME --interpolate --count 6      # from latent to latent

OUT/samples.png is the sheet and OUT/samples.npz holds the inputs and outputs as arrays; of sounds there are also
OUT/wav/*.wav, at the network's own level, and OUT/index.html, where all are played at one loudness. With --interpolate
the sheet has one row for the way from each latent to the next, and OUT/interpolation.gif goes through all of them.
Sample i depends on the network, the seed and i only, however many are drawn.
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax import generators
from nd_jax.report.sheets import compose, gif, replace, sheet
from nd_jax.report.sounds import encode_wav, sounds
from nd_jax.runtime import command_line, enable_compilation_cache


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to draw from, how much of it, and where to put it."""

    network: str
    """A generator: a folder that Network.save wrote, or the name of a shipped network."""
    count: int | None = None
    """How many samples; with --interpolate, how many latents to go through. By default 64 images or 16 sounds, and 6
    latents."""
    seed: int = 0
    """Of the latents."""
    out: pathlib.Path = pathlib.Path("out/samples")
    """The folder to write; other files in it stay."""
    labels: tuple[str, ...] = ()
    """Of a generator with classes: which to ask for, in turn, by name or number, pitches by name or MIDI number; by
    default all."""
    truncation: float = 1.0
    """What latents are multiplied with; below 1 samples are more typical and less varied. Not for a GANSynth, which
    weighs the length of a latent against the pitch."""
    interpolate: bool = False
    """Go from each latent to the next, and from the last back to the first, along the sphere (slerp)."""
    between: int = 8
    """Samples on the way from one latent to the next."""
    columns: int | None = None
    """Of the sheet; by default as many as rows, or as classes."""
    theme: Literal["dark", "light"] = "dark"
    """Colours of the sheet."""


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """What was made: inputs, outputs, how long they took, and what the pages say about each."""

    given: Any
    outputs: Any
    seconds: float
    titles: list[str]
    groups: list[str]
    facts: list[dict[str, Any]]
    heads: list[str]
    columns: int | None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    settings = command_line(Settings, arguments, __doc__)
    enable_compilation_cache()
    try:
        made = run(settings)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(path)
    return 0


def run(settings: Settings) -> list[pathlib.Path]:
    """Does what the settings say; returns the files to look at."""
    if settings.between < 1:
        raise ValueError(f"between must be 1 or more, got {settings.between}")
    network = nd.load(settings.network)
    try:
        drawn = _between(network, settings) if settings.interpolate else _samples(network, settings)
    except ValueError as error:
        raise ValueError(f"{settings.network}: {error}") from None
    title = f"{network.card.get('name') or pathlib.Path(settings.network).name}, seed {settings.seed}"
    out = settings.out.expanduser()
    made = [
        sheet(
            drawn.outputs,
            network.output,
            out / "samples.png",
            columns=settings.columns or drawn.columns,
            titles=drawn.heads,
            caption=title,
            theme=settings.theme,
        )
    ]
    _arrays(out / "samples.npz", drawn)
    if settings.interpolate:
        made.append(_animate(out / "interpolation.gif", network.output, drawn, settings))
    if network.output.is_sound:
        made.append(_listen(out, network.output, drawn, title))
    return made


def _samples(network: nd.Network, settings: Settings) -> _Drawn:
    count = settings.count if settings.count is not None else 16 if network.output.is_sound else 64
    given = generators.inputs(network, settings.seed, count, labels=settings.labels, truncation=settings.truncation)
    names = _classes(network, given)
    asked = len(settings.labels) or len(generators.classes_of(network))
    facts = [{"seed": settings.seed, "number": number} for number in range(count)]
    return _Drawn(
        given,
        *_made(network, given),
        titles=[f"sample {number}" for number in range(count)],
        groups=names,
        facts=facts,
        heads=names or ([f"{number}" for number in range(count)] if network.output.is_sound else []),
        columns=asked if 1 < asked <= 16 else None,
    )


def _between(network: nd.Network, settings: Settings) -> _Drawn:
    count = 6 if settings.count is None else settings.count
    if count < 2:
        raise ValueError(f"to go from latent to latent takes a count of 2 or more, got {count}")
    ends = generators.inputs(network, settings.seed, count, labels=settings.labels, truncation=settings.truncation)
    z = ends["z"] if isinstance(ends, dict) else ends
    shares = np.arange(settings.between) / settings.between
    way = np.concatenate([generators.slerp(z[row], z[(row + 1) % count], shares) for row in range(count)])
    # The class stays what it is for a whole row.
    given = {"z": way, "label": np.repeat(ends["label"], settings.between)} if isinstance(ends, dict) else way
    places = [(row, share) for row in range(count) for share in shares]
    steps = [f"{100 * share:.0f} %" for _, share in places]
    names = _classes(network, given)
    return _Drawn(
        given,
        *_made(network, given),
        titles=[f"{row} to {(row + 1) % count}, {step}" for (row, _), step in zip(places, steps, strict=True)],
        groups=names,
        facts=[
            {"seed": settings.seed, "from": row, "to": (row + 1) % count, "share": float(share)}
            for row, share in places
        ],
        heads=steps,
        columns=settings.between,
    )


def _made(network: nd.Network, given: Any) -> tuple[Any, float]:
    """What a generator makes, and the seconds that it took."""
    began = time.perf_counter()
    return generators.make(network, given, progress=True), time.perf_counter() - began


def _classes(network: nd.Network, given: Any) -> list[str]:
    names = generators.classes_of(network)
    return [names[label] for label in given["label"]] if names else []


def _arrays(path: pathlib.Path, drawn: _Drawn) -> None:
    arrays = {}
    for name, tree in (("input", drawn.given), ("output", drawn.outputs)):
        arrays |= {f"{name}/{part}": leaf for part, leaf in tree.items()} if isinstance(tree, dict) else {name: tree}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    replace(path, buffer.getvalue())


def _animate(path: pathlib.Path, domain: nd.Domain, drawn: _Drawn, settings: Settings) -> pathlib.Path:
    frames = []
    for index, title in enumerate(drawn.titles):
        one = jax.tree.map(lambda leaf, at=index: leaf[at : at + 1], drawn.outputs)
        words = f"{title}, {drawn.groups[index]}" if drawn.groups else title
        frames.append(compose(one, domain, titles=[words], theme=settings.theme, tile=168))
    return gif(frames, path, seconds=len(frames) / 8)


def _listen(out: pathlib.Path, domain: nd.Domain, drawn: _Drawn, title: str) -> pathlib.Path:
    began = time.perf_counter()
    heard = list(sounds(domain, drawn.outputs) or ())
    passed = drawn.seconds + time.perf_counter() - began
    lasting = sum(len(sound.wave) / sound.sample_rate for sound in heard)
    print(
        f"{len(heard)} sounds of {lasting:.0f} s in all made in {passed:.1f} s, with compilation: "
        f"{len(heard) / passed:.1f} sounds a second, {lasting / passed:.1f} times real time"
    )
    written = set()
    for index, sound in enumerate(heard):
        word = f"-{re.sub(r'[^A-Za-z0-9]+', '_', drawn.groups[index])}" if drawn.groups else ""
        written.add(replace(out / "wav" / f"{index:03d}{word}.wav", encode_wav(sound)))
    # Those of an earlier call that drew more.
    for path in set((out / "wav").glob("[0-9][0-9][0-9]*.wav")) - written:
        path.unlink()
    return nd.report.players(
        drawn.outputs,
        domain,
        out,
        titles=drawn.titles,
        groups=drawn.groups,
        facts=drawn.facts,
        title=title,
        made=heard,
    )


if __name__ == "__main__":
    sys.exit(main())
