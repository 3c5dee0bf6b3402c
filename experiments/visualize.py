"""Opens up a trained network: optimises its units, finds natural sounds for them, and writes the atlas.

    python experiments/visualize.py                     # the demo: the shipped instrument-note network
    python experiments/visualize.py --network checkpoints/spoken_digits --data-dir recordings --data-set spoken_digits
    python experiments/visualize.py --network my_network --layers block1/conv block2/conv --units 16 --steps 512
    python experiments/visualize.py --network conditional_mel_gan --units 16     # a generator: latents of its units

Every finished layer is kept in OUT/results, so that a run that was killed goes on with --resume. Ctrl-C writes the
atlas of what there is.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

import nd_jax as nd
from nd_jax.data.loading import DataSet
from nd_jax.experiments import visualize_generator
from nd_jax.experiments.visualize_cards import Judge
from nd_jax.experiments.visualize_history import course, history_of
from nd_jax.experiments.visualize_natural import natural_sounds as _natural
from nd_jax.network import digest
from nd_jax.runtime import nearest, script
from nd_jax.visualize import asking, manifest, optimizers
from nd_jax.visualize.result import slug


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to look into, for how long, and where to put the atlas."""

    network: str = "checkpoints/instrument_notes"
    """A folder that Network.save wrote, or the name of a shipped network."""
    layers: tuple[str, ...] = ()
    """Layer names; by default every layer that has weights of its own."""
    units: int | None = None
    """At most so many units of each layer (the first ones); by default all."""
    steps: int = 256
    """Optimizer steps for each unit."""
    out: pathlib.Path = pathlib.Path("out/atlas")
    """The folder to write."""
    data_dir: pathlib.Path | None = None
    """Recordings to search for natural sounds; by default samples of a generator or the procedural sound bank."""
    generator: str | None = None
    """Without recordings: a generator of the network's own inputs, whose samples take their place; by default a shipped
    one that makes such inputs, when there is one; "" for none."""
    data_set: DataSet = "audio_folder"
    """How to read data_dir."""
    split: str = "all"
    """Which part of the data set."""
    clips: int = 1024
    """At most so many natural sounds."""
    snapshots: int = 6
    """How many pictures of the way to keep."""
    quiet: float = 1.0
    """Silence prior: standard deviations of a unit's natural activation that one dB of mean level costs, in the first
    half of the steps; a fifth of it afterwards; 0 for none."""
    fine: bool = False
    """Polish single cells of a spectrogram too, as visualize_batch does unless asked: nearer to the unit's optimum,
    harder to see and to hear."""
    trust: Literal["none", "quick", "full"] = "full"
    """How far each input is to be believed: "full" measures every line of the trust card; "quick" all but the agreement
    of several starts, which costs three more sweeps of half the steps; "none" leaves the cards away."""
    history: pathlib.Path | None = None
    """The history/ folder of the network's training: every unit's page gains a slider over its moments. Each costs what
    the sweep costs."""
    moments: int = 6
    """At most so many moments of the history, the first and the last among them."""
    transforms: bool = True
    """Perturb the input at every step of the first half, within what the network takes for the same sound."""
    learning_rate: float = 0.05
    """Of Adam."""
    until_converged: bool = False
    """Units stop when they have converged, and others take their places; steps is then the most (docs/speed.md)."""
    classes: tuple[str, ...] = ()
    """Of a generator that can be asked for classes (pitches, digits): those at which every unit is optimised; by
    default five, evenly from the first to the last."""
    tuned: pathlib.Path | None = None
    """Penalties and transforms from experiments/tune_settings.py, layer by layer, in place of quiet and transforms."""
    chunk_size: int | None = None
    """Units per compiled program; by default from the size of the layers."""
    seed: int = 0
    """Of everything random."""
    single_file: bool = False
    """One index.html with everything inside instead of a folder."""
    resume: bool = False
    """Keep the layers that an earlier run with the same settings finished."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, functools.partial(run, command=_command(arguments)), arguments, __doc__)


def run(settings: Settings, *, command: str | None = None) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    began = time.perf_counter()
    _check(settings)

    # What is looked into.
    network = nd.load(settings.network)
    visualize_generator.check(network, settings)
    makes = visualize_generator.is_generator(network)
    planned = _plan(network, settings)
    total = sum(len(units) for units in planned.values())
    print(f"{settings.network}: {total} units of {len(planned)} layers, {settings.steps} steps each")

    # Natural inputs, and what each unit answers to among them.
    exemplars, natural, names = None, None, None
    if makes:
        exemplars = visualize_generator.samples(network, list(planned), settings)
    else:
        natural, names = _natural(network, settings)
    if natural is not None:
        exemplars = nd.dissect.exemplars(network, **natural, layers=list(planned), names=names)
    listened = time.perf_counter()

    # The sweep: one compiled program a layer; finished layers are on disk before the next begins.
    results, cards = [], []
    judge = Judge(network, natural, "none" if makes else settings.trust, settings.seed)
    for place, (layer, units) in enumerate(planned.items(), start=1):
        print(f"[{place}/{len(planned)}] ", end="", flush=True)
        result = _layer(network, layer, units, exemplars, settings)
        if result is not None:
            results.append(result)
        if result is None or len(result) < len(units) or any("interrupted" in status for status in result.status):
            print("interrupted: writing the atlas of what there is; --resume goes on", file=sys.stderr)
            break
        try:
            card = judge.card(result, settings.out / "results" / slug(layer), exemplars)
        except KeyboardInterrupt:
            print("interrupted: writing the atlas of what there is; --resume goes on", file=sys.stderr)
            break
        cards += [] if card is None else [card]
    if not results:
        raise ValueError("interrupted before any unit was begun; there is nothing to show")
    followed = time.perf_counter()
    moments = []
    if settings.history is not None:
        moments = course(network, results, natural, settings.history, settings.moments, settings.out / "moments")
    swept = time.perf_counter()
    past = f"history {swept - followed:.0f} s, " if moments else ""

    # The page.
    index = nd.report.atlas(
        results,
        settings.out,
        exemplars=exemplars,
        trust=cards,
        training=moments,
        title=network.card.get("name"),
        single_file=settings.single_file,
        command=command,
        source=settings.network,
        planned={layer: len(units) for layer, units in planned.items()},
    )
    done = time.perf_counter()
    print(
        f"{_count(results)} in {done - began:.0f} s "
        f"(natural inputs {listened - began:.0f} s, sweep {followed - listened - judge.seconds:.0f} s, "
        f"trust {judge.seconds:.0f} s, {past}page {done - swept:.0f} s)"
    )
    return index


def _check(settings: Settings) -> None:
    """Refuses senseless numbers before anything is read or computed."""
    for name, least in {
        "units": 1,
        "steps": 0,
        "clips": 1,
        "snapshots": 0,
        "chunk_size": 1,
        "quiet": 0,
        "moments": 2,
    }.items():
        value = getattr(settings, name)
        if value is not None and value < least:
            raise ValueError(f"{name} must be {least} or more, got {value}")
    nd.visualize.adam(settings.learning_rate)
    if settings.history is not None:
        history_of(settings.history)


def _plan(network: nd.Network, settings: Settings) -> dict[str, range]:
    known = nd.taps.layers(network)
    chosen = settings.layers or tuple(nd.taps.weighted_layers(network))
    for layer in chosen:
        if layer not in known:
            nd.taps.layer_shape(network, layer)
            raise ValueError(f"{layer!r} is the network's output; {nearest(layer, known)}")
    limit = settings.units or max(shape[-1] for shape in known.values())
    return {layer: range(min(known[layer][-1], limit)) for layer in chosen}


def _penalties(
    network: nd.Network, layer: str, exemplars: nd.dissect.Exemplars | None, settings: Settings
) -> tuple[Any, ...]:
    """A prior for silence, in the unit that all layers share: the spread of a unit's activation on natural sounds.

    Without it an optimum is loud everywhere, wherever the unit does not mind.
    """
    if exemplars is None or not network.input.is_sound or settings.quiet == 0:
        return ()
    quiet = nd.penalties.silence(weight=settings.quiet * float(np.median(exemplars.spread[layer])))
    # In full only while the place to climb is chosen: to the end, it would pull away from the unit's optimum.
    return (nd.penalties.early(quiet, rest=0.2),)


def _chosen(
    network: nd.Network, layer: str, exemplars: nd.dissect.Exemplars | None, settings: Settings
) -> dict[str, Any]:
    """What regularises a layer: this script's own recipe, or what was measured to be right."""
    made = {
        "parameterization": _parameterization(network, settings),
        "transforms": None if settings.transforms else (),
        "penalties": _penalties(network, layer, exemplars, settings),
    }
    if settings.tuned is None:
        return made
    given = nd.tuning.load(settings.tuned).check(network)(layer)
    return made | {name: given[name] for name in ("transforms", "penalties", "strengths", "scale")}


def _parameterization(network: nd.Network, settings: Settings) -> Any:
    """Large structure only, unless asked: sounds of pitch units keep their pitch more often so (docs/priors.md)."""
    return nd.parameterizations.fourier(fine=settings.fine) if network.input.kind in ("log_mel", "fbank") else None


def _count(results: Sequence[nd.Visualization]) -> str:
    """How many units, however often each was run, and what became of those that did not answer at first."""
    units: dict[tuple[str, str], bool] = {}
    rescued = set()
    for result in results:
        for lane, (layer, unit, label) in enumerate(zip(result.layers, result.units, result.labels, strict=True)):
            name = (layer, str(unit) if unit >= 0 else label)
            units[name] = units.get(name, False) or not result.status[lane].startswith("dead")
            rescued |= {name} if result.starts and result.starts[lane] != "own" else set()
    dead = sum(not alive for alive in units.values())
    states = [f"{len(rescued)} rescued"] * bool(rescued) + [f"{dead} dead"] * bool(dead)
    return ", ".join([f"{len(units)} unit{'s' if len(units) != 1 else ''}", *states])


def _layer(
    network: nd.Network, layer: str, units: range, exemplars: nd.dissect.Exemplars | None, settings: Settings
) -> nd.Visualization | None:
    folder = settings.out / "results" / slug(layer)
    chosen = _chosen(network, layer, exemplars, settings)
    # Among the clips that are kept is the strongest of every unit: what a unit that does not answer is restarted from.
    makes = visualize_generator.is_generator(network)
    probes = None if exemplars is None or makes else exemplars.inputs
    if settings.resume:
        kept = _kept(folder, network, layer, units, chosen, probes, settings)
        if kept is not None:
            print(f"{layer}: {_count([kept])}, kept from an earlier run")
            return kept
    began = time.perf_counter()
    try:
        common: dict[str, Any] = {
            "optimizer": nd.visualize.adam(settings.learning_rate),
            "steps": settings.steps,
            "stop_when": nd.visualize.converged() if settings.until_converged else None,
            "snapshots": settings.snapshots,
            "chunk_size": settings.chunk_size,
        }
        if makes:
            result = visualize_generator.look(network, layer, units, settings, **common)
        else:
            objective, key = nd.objectives.channel(layer, units), jax.random.key(settings.seed)
            result = nd.visualize_batch(network, objective, key=key, probes=probes, **common, **chosen)
    except KeyboardInterrupt:
        return None
    result.save(folder)
    seconds = time.perf_counter() - began
    bad = sum(status != "ok" and not status.startswith("dead") for status in result.status)
    print(f"{layer}: {_count([result])} in {seconds:.1f} s" + (f", {bad} of them not ok" if bad else ""), flush=True)
    return result


def _kept(
    folder: pathlib.Path,
    network: nd.Network,
    layer: str,
    units: range,
    chosen: Mapping[str, Any],
    probes: np.ndarray | None,
    settings: Settings,
) -> nd.Visualization | None:
    if not folder.is_dir():
        return None
    try:
        found = nd.Visualization.load(folder, network=network)
    except ValueError:
        return None
    made = found.manifest
    there = (
        made["network"]["digest"],
        found.labels,
        made["settings"]["steps"],
        made["settings"]["penalties"],
        made["settings"]["parameterization"],
        made["settings"]["transforms"],
        made["settings"].get("stop_when"),
        None if found.strengths is None else found.strengths[0].tolist(),
        made.get(asking.MARK, []),
        made["settings"]["optimizer"],
        made["key"]["data"][-1],
    )
    moves = chosen["transforms"]
    makes = visualize_generator.is_generator(network)
    classes = visualize_generator.classes_of(network, settings) if makes else []
    through = _parameterization(network, settings) or nd.parameterizations.default(network.input)
    asked = (
        digest(network),
        tuple(f"{layer}:{unit}" for unit in units),
        settings.steps,
        [manifest.plain(item) for item in chosen["penalties"]],
        made["settings"]["parameterization"] if classes else manifest.plain(through),
        [manifest.plain(item) for item in (nd.transforms.default(network.input) if moves is None else moves)],
        manifest.plain(nd.visualize.converged()) if settings.until_converged else None,
        np.asarray(chosen["strengths"], np.float32).tolist() if "strengths" in chosen else None,
        classes,
        optimizers.name_of(nd.visualize.adam(settings.learning_rate)),
        settings.seed,
    )
    # Units that are dead may answer to other probing inputs.
    listened = "probing" if probes is None else f"{len(probes)} probing"
    heard = [(listened in status) == (probes is not None) for status in found.status if status.startswith("dead")]
    whole = all("interrupted" not in status for status in found.status)
    return found if there == asked and whole and all(heard) else None


def _command(arguments: Sequence[str] | None) -> str:
    given: Mapping[int, str] | Sequence[str] = sys.argv[1:] if arguments is None else arguments
    return " ".join(["python experiments/visualize.py", *map(shlex.quote, given)])


if __name__ == "__main__":
    sys.exit(main())
