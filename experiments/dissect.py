"""Audio Network Dissection in one command: what every unit of a network listens for, on a folder of sounds.

    python experiments/dissect.py                                        # no download: sounds that are made here
    python experiments/dissect.py --sounds FOLDER                        # labels that are measured: loud, noisy, dark
    python experiments/dissect.py --sounds FOLDER --captions captions.csv --concepts esc50
    python experiments/dissect.py --sounds FOLDER --captions folders     # a folder a class: its name is the caption
    python experiments/dissect.py --sounds FOLDER --captions captions.csv --concepts mine.txt --clap models/clap

It records what every unit does on every clip, asks which concepts go along with it (DB from captions, TAB from sounds
with a CLAP, ICL with a language model), by every similarity function and beside shuffled clips, measures the units'
tuning, optimises a sound for some units of each layer, and puts all of it on pages.

OUT/index.html says what was found, OUT/atlas/index.html shows units, OUT/labels.csv and OUT/labels.json have every
label. What is done is kept in OUT and not done again: the same command goes on after a kill, and does anew what other
settings ask for.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, Literal

import nd_jax as nd
from nd_jax import generators, taps
from nd_jax.experiments import dissect_optimised as optimised
from nd_jax.experiments import dissect_page as page
from nd_jax.experiments import dissect_stages as stages
from nd_jax.experiments.dissect_sounds import Heard, listen
from nd_jax.runtime import script

_STEPS = 6


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is dissected, with which sounds and words, and where to put what is found."""

    network: str = "checkpoints/esc10"
    """A shipped name, or a folder that Network.save wrote; it takes sound."""
    sounds: pathlib.Path | None = None
    """A folder of sound files (wav, flac, ogg), with its subfolders; by default sounds that are made here."""
    concepts: str | None = None
    """esc50, urbansound8k, gtzan or a file of concepts; "acoustic" for what is measured (loud, noisy, dark): that is
    the default, and with captions from folders the folders' names."""
    captions: str = "acoustic"
    """A CSV or JSON file of captions or classes; "folders", where a clip's folder says what it is; or "acoustic": what
    can be measured of a clip, in words."""
    encoder: str = "tfidf"
    """Of captions and concepts: tfidf, or the folder of a sentence encoder or of a CLAP."""
    clap: pathlib.Path | None = None
    """The folder of a CLAP: sounds are compared with concepts directly too (TAB)."""
    model: str | None = None
    """A language model's name at the endpoint, which is asked too (ICL)."""
    endpoint: str = "http://localhost:8000/v1"
    """An OpenAI-compatible endpoint."""
    asked: int = 64
    """At most so many units of each layer the language model is asked about."""
    layers: tuple[str, ...] = ()
    """Layer names; by default those that the network's kind is dissected at, else every layer with weights."""
    pool: Literal["mean", "max", "first"] = "mean"
    """What is kept of a layer with positions; "first", the first token, is what AND takes of AST and BEATs."""
    functions: tuple[str, ...] = ()
    """cosine, cosine_cubed, rank_reorder, wpmi, soft_wpmi; by default all."""
    function: str = ""
    """The one that names units; by default cosine_cubed."""
    source: str = ""
    """The one that names units, DB, TAB or measured; by default the first there is."""
    shuffles: int = 19
    """How often the labels are found again with the clips shuffled: what chance does."""
    top: int = 5
    """Clips with the highest activation that are kept of each unit; there must be as many clips."""
    made: int = 312
    """Without a folder: how many sounds are made."""
    tuning: Literal["none", "quick", "full"] = "quick"
    """Whether units' tuning is measured, with a small or the full bank of test sounds."""
    units: int = 16
    """At most so many units of each layer (the first ones) get an optimised sound and a page; 0 for none."""
    steps: int = 128
    """Of each optimisation."""
    trust: Literal["none", "quick", "full"] = "quick"
    """How far each optimised sound is to be believed; as in experiments/visualize.py."""
    out: pathlib.Path = pathlib.Path("out/dissect")
    """The folder to write; other files in it stay."""
    fresh: bool = False
    """Throw away what is kept in OUT of an earlier run."""
    batch_size: int = 8
    """Clips of a forward pass."""
    seed: int = 0
    """Of everything random."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return script(Settings, run, arguments, __doc__, resumes=True)


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    _check(settings)
    out = settings.out.expanduser()

    # What is looked into, and which words there are for it.
    network = nd.load(settings.network)
    layers, left = _layers(network, settings)
    chosen = stages.concepts_of(settings)
    marks = stages.Marks(out / "kept", settings.fresh)

    # Every unit on every clip.
    _say(1, f"recording {len(layers)} layers")
    heard = listen(network, layers, settings, out / "kept")
    left |= heard.record.skipped
    print(f"      {heard.record}")

    # What is said about the clips, what they have of each concept, and which concept each unit is most alike.
    _say(2, "captions")
    told = stages.captions_of(heard, settings, out / "kept")
    concepts = chosen or stages.folders_as_concepts(heard)
    concepts, rare = stages.frequent(concepts, told, settings)
    left |= {**told.captions.skipped, **rare}
    _say(3, f"labels from {len(concepts)} concepts ({concepts.title})")
    scores, encoder = stages.scores_of(heard, told, concepts, settings, marks)
    labels = stages.labels_of(heard, scores, concepts, settings, marks)
    if settings.model is not None:
        labels, reason = stages.answers_of(labels, heard, told, encoder, settings, out / "kept")
        left |= reason

    # What units are tuned to, measured.
    _say(4, "tuning")
    tuned = stages.tuning_of(network, layers, settings, marks)

    # Optimised sounds of some units, and how far to believe them.
    _say(5, "optimised sounds")
    seen = optimised.look(network, heard, settings, marks) if settings.units else None

    _say(6, "pages")
    found = page.Found(network, heard, told, concepts, labels, tuned, left, encoder)
    atlas = None if seen is None else _atlas(found, seen, settings, out)
    return page.write(found, seen, atlas, settings, out)


def _say(step: int, what: str) -> None:
    print(f"[{step}/{_STEPS}] {what}", flush=True)


def _check(settings: Settings) -> None:
    """Refuses senseless settings before anything is read or computed."""
    least = {"asked": 1, "shuffles": 0, "top": 1, "made": 1, "units": 0, "steps": 1, "batch_size": 1}
    for name, low in least.items():
        if getattr(settings, name) < low:
            raise ValueError(f"{name} must be {low} or more, got {getattr(settings, name)}")
    if settings.sounds is not None:
        sounds, out = settings.sounds.expanduser().absolute(), settings.out.expanduser().absolute()
        if not sounds.is_dir():
            raise ValueError(f"{settings.sounds} is not a folder of sounds")
        if sounds == out or sounds in out.parents:
            raise ValueError(f"out, {settings.out}, lies within the sounds, whose clips its own would be taken for")
    if settings.out.expanduser().is_file():
        raise ValueError(f"{settings.out} is a file; give a folder")
    stages.check_words(settings)


def _layers(network: nd.Network, settings: Settings) -> tuple[list[str], dict[str, str]]:
    """The layers to record, and those that are left out, with the reason."""
    domain: Any = network.input
    try:
        generators.latent_of(network)
    except ValueError:
        pass
    else:
        raise ValueError(f"{settings.network} is a generator: experiments/dissect_generator.py is for those")
    if not hasattr(domain, "from_wave"):
        raise ValueError(f"{settings.network} takes {domain.kind!r}, and sounds are what units are dissected with here")
    names = list(settings.layers or taps.dissected_layers(network))
    empty = {name: "the layer has no units" for name in names if 0 in taps.layer_shape(network, name)}
    kept = [name for name in names if name not in empty]
    if not kept:
        raise ValueError(f"{settings.network} has no layer with units to dissect")
    return kept, empty


def _atlas(found: page.Found, seen: optimised.Seen, settings: Settings, out: pathlib.Path) -> pathlib.Path:
    return nd.report.atlas(
        seen.results,
        out / "atlas",
        exemplars=seen.exemplars,
        trust=seen.cards,
        tuning=found.tuning,
        labels=found.labels,
        title=found.network.card.get("name"),
        source=settings.network,
    )


__all__ = ["Heard", "Settings", "main", "run"]

if __name__ == "__main__":
    sys.exit(main())
