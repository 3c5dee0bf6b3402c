"""Table 2 of AND (Wu et al. 2024) on ESC-10: are the labels of a last layer, whose classes are known, true?

    python experiments/reproduce.py s3 --data-dir ESC
    python experiments/reproduce.py s3 --data-dir ESC --clap CLAP --text-encoder MINILM --captions captions.json
    python experiments/reproduce.py s3 --data-dir ESC --endpoint http://localhost:8000/v1 --model NAME
    python experiments/reproduce.py s3 --released AND

Every output unit of a classifier of ESC-10 stands for a class. DB, TAB and ICL name each unit from what the clips have
of each concept, by all five similarity functions, among the 10 classes of ESC-10 and among the 50 of ESC-50, on all 400
clips and on the 80 that the network was not trained on. ESC is a copy of ESC-50, or a folder with `esc10.csv` and
audio/.

Nothing is downloaded. DB always runs, with TF-IDF and three sources of captions: the class's own name (a captioner that
is never wrong: an upper bound, and a check), measured captions, and measured captions where concepts are described by
those of other folds. Your captions, CLAP, a sentence encoder and a language model add rows. `--released` is a folder of
AND's own files (saved_activations, prediction, discriminative_samples, audio_description, data): they are scored, and
labelled again.

With checkpoints/esc10 25 seconds of processor time, most of it for measuring the captions; the second time a few
seconds. Expect 100 / 100 from the class's name, and chance from measured captions compared with names; the tables are
in docs/audio_network_dissection.md.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.experiments import reproduce_released, reproduce_s3_page
from nd_jax.experiments.configs.esc10 import windows
from nd_jax.experiments.reproduce_released_scores import as_released, relabelled, scored
from nd_jax.experiments.reproduce_s3_rows import (
    Probing,
    Row,
    chance,
    database_rows,
    figures,
    icl_row,
    measured_captions,
    scored_row,
    tab_row,
)
from nd_jax.experiments.reproduce_s3_ways import published_ways, wrong_captions
from nd_jax.network import digest
from nd_jax.report.sheets import replace
from nd_jax.visualize.classes import class_names


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is dissected, on which clips, and with what."""

    network: str = "checkpoints/esc10_ast"
    """A classifier of sounds: a shipped name, or a folder that Network.save wrote."""
    data_dir: pathlib.Path | None = None
    """ESC-10: a copy of ESC-50, or a folder with `esc10.csv` and audio/."""
    prepared_dir: pathlib.Path | None = None
    """Where the prepared data set is kept; by default in the user's data folder."""
    released: pathlib.Path | None = None
    """A folder of files that AND has released, or that its code wrote."""
    held_out: int = 5
    """The fold that the network was not trained on, 1 to 5."""
    windows: int = 5
    """A clip's activation is the mean over so many windows, spread evenly over its sounding part."""
    captions: pathlib.Path | None = None
    """Captions of the clips, CSV or JSON."""
    text_encoder: pathlib.Path | None = None
    """A folder with a sentence encoder, such as all-MiniLM-L12-v2; without it texts are compared by TF-IDF."""
    clap: pathlib.Path | None = None
    """A folder with CLAP: TAB, and one more text encoder for DB."""
    endpoint: str = ""
    """An OpenAI-compatible endpoint for ICL, such as http://localhost:8000/v1."""
    model: str = ""
    """The name of the language model there."""
    out: pathlib.Path = pathlib.Path("out/reproduce_s3")
    """The folder to write; other files in it stay."""
    progress: bool = True
    """Draw progress on standard error."""


def run(settings: Settings) -> pathlib.Path:
    """Does what the settings say; returns the path of index.html."""
    if settings.data_dir is None and settings.released is None:
        raise ValueError("give --data-dir with ESC-10, --released with files of AND, or both")
    if bool(settings.endpoint) != bool(settings.model):
        raise ValueError("ICL needs both: --endpoint, the address, and --model, the name of the language model there")
    found: dict[str, Any] = {"settings": {name: _plain(value) for name, value in vars(settings).items()}}
    if settings.data_dir is not None:
        found |= _protocol(settings)
    if settings.released is not None:
        found |= _released(settings)
    replace(settings.out.expanduser() / "figures.json", (json.dumps(found, indent=1) + "\n").encode())
    return reproduce_s3_page.write(found, settings.out.expanduser())


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, pathlib.Path) else value


_LEFT_OUT = {
    "clap": "TAB needs CLAP from a folder (--clap)",
    "endpoint": "ICL needs a language model (--endpoint, --model)",
    "captions": "DB from captions that were heard needs a file of them (--captions)",
    "text_encoder": "meaning in place of spelling needs a sentence encoder from a folder (--text-encoder)",
}


# --- our network on ESC-10 -------------------------------------------------------------------------------------------


def _protocol(settings: Settings) -> dict[str, Any]:
    network, encoders = nd.load(settings.network), _encoders(settings)
    if settings.captions is not None:
        nd.dissect.read_captions(settings.captions)
    probing = probe(network, settings)
    told = {
        "network": str(network.card.get("name") or settings.network),
        "digest": digest(network),
        "accuracy": network.card.get("accuracy", {}),
        "units": len(probing.labels),
        "labels": list(probing.labels),
        "clips": len(probing.names),
        "classes": len(probing.classes),
        "held_out": {"fold": settings.held_out, "clips": int((probing.fold == settings.held_out).sum())},
        "without_class": [name for name in probing.labels if name not in probing.classes],
        "left_out": [reason for given, reason in _LEFT_OUT.items() if not getattr(settings, given)],
    }
    own = nd.dissect.ConceptSet("ESC-10", probing.classes, tuple(range(len(probing.classes))))
    sets = (own, dataclasses.replace(nd.dissect.CONCEPT_SETS["esc50"], name="ESC-50"))
    held_out = np.flatnonzero(probing.fold == settings.held_out)
    tables = []
    for which, rows in (("all clips", np.arange(len(probing.names))), ("held-out clips", held_out)):
        for concepts in sets:
            methods = _methods(probing, concepts, rows, encoders, settings, which)
            scores = [scored_row(row, probing, concepts, encoders["names"]) for row in methods]
            tables.append(
                {
                    "probing": which,
                    "clips": len(rows),
                    "concepts": concepts.name,
                    "of": len(concepts),
                    "chance": chance(len(concepts)),
                    "rows": scores,
                }
            )
    encode = encoders["text"]["TF-IDF"]
    told |= {"ways": published_ways(probing, own, encode), "wrong_captions": wrong_captions(probing, own, encode)}
    return {"protocol": {**told, "tables": tables}}


def probe(network: nd.Network, settings: Settings) -> Probing:
    """What the output units do on the clips of ESC-10, recorded in OUT/record, and what is known of the clips.

    Raises:
      ValueError: a network that takes no sounds or has no single output with names, or a fold without clips.
    """
    domain: Any = network.input
    if not hasattr(domain, "from_wave") or len(nd.taps.output_shapes(network)) != 1 or not network.labels:
        raise ValueError(
            f"{settings.network} must be a classifier of sounds with one output whose classes have names; the "
            f"recipes esc10 and esc10-ast train such a network"
        )
    rate = int(getattr(domain, "sample_rate", 0) or domain.transform.sample_rate)
    clips = nd.data.load(
        "esc10", "all", manual_dir=settings.data_dir, data_dir=settings.prepared_dir, sample_rate=rate,
        progress=settings.progress,
    )  # fmt: skip
    fold = clips.features["fold"].astype(int)
    if settings.held_out not in fold:
        raise ValueError(f"no clip is of fold {settings.held_out}; there are {sorted(set(fold.tolist()))}")
    known = clips.names["category"]
    if not set(class_names(network)) & set(known):
        raise ValueError(f"no class of {settings.network} is one of ESC-10's: {', '.join(known)}")
    if settings.windows < 1:
        raise ValueError(f"windows must be 1 or more, got {settings.windows}")
    names = clips.files or tuple(f"clip {clip}" for clip in range(len(clips)))
    record = nd.dissect.record(
        network,
        Heard(windows(clips, int(domain.samples), settings.windows)),
        layers=["output"],
        folder=settings.out.expanduser() / "record",
        names=[f"{name}, window {window}" for name in names for window in range(settings.windows)],
        progress=settings.progress,
    )
    outputs = record.activations("output").reshape(len(clips), settings.windows, -1).mean(axis=1)
    classes = clips.names["category"]
    return Probing(
        activations=outputs,
        labels=class_names(network),
        names=tuple(names),
        classes=tuple(classes),
        category=clips.features["category"].astype(int),
        fold=fold,
        clips=clips,
        measured=measured_captions(
            clips, names, settings.out.expanduser() / "acoustic_captions.json", settings.progress
        ),
    )


class Heard:
    """Sounds of 16 bits that become numbers of full scale 1 when they are read: a quarter of the memory."""

    def __init__(self, samples: np.ndarray):
        self._samples = samples
        self.shape, self.dtype = samples.shape, np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, rows: Any) -> np.ndarray:
        return self._samples[rows].astype(np.float32) / 32768.0


def _encoders(settings: Settings) -> dict[str, Any]:
    """What compares texts: {"TF-IDF": texts -> encoder, ...}, CLAP under "sounds", and "names" for Table 2's cosine."""
    nd.runtime.require("sklearn.feature_extraction.text", "labels")
    text: dict[str, Any] = {"TF-IDF": lambda texts: nd.dissect.TfIdf(texts)}
    names: Any = text["TF-IDF"]
    sounds = None
    if settings.text_encoder is not None:
        sentences = nd.dissect.SentenceEncoder(settings.text_encoder)
        names = text[f"sentence encoder {settings.text_encoder.name}"] = lambda _: sentences
    if settings.clap is not None:
        sounds = nd.dissect.Clap(settings.clap)
        text[f"CLAP {settings.clap.name}"] = lambda _: sounds
    return {"text": text, "sounds": sounds, "names": names}


def _methods(
    probing: Probing,
    concepts: nd.dissect.ConceptSet,
    rows: np.ndarray,
    encoders: dict[str, Any],
    settings: Settings,
    which: str,
) -> list[Row]:
    methods: list[Row] = []
    for name, encode in encoders["text"].items():
        methods += database_rows(probing, concepts, rows, name, encode, settings.captions)
    if encoders["sounds"] is not None and settings.clap is not None:
        path = settings.out.expanduser() / "clap.npz"
        clap = encoders["sounds"]
        methods.append(tab_row(probing, concepts, rows, clap, settings.clap, path, settings.progress))
    if settings.endpoint and which == "all clips":
        model = nd.dissect.LanguageModel(settings.model, settings.out.expanduser() / "replies", settings.endpoint)
        asked = (model, encoders["names"], settings.captions, settings.progress)
        try:
            methods.append(icl_row(probing, concepts, rows, *asked))
        except nd.dissect.LanguageModelError as error:
            raise ValueError(f"ICL: {error}; what was answered is kept") from None
    return methods


# --- AND's own files -------------------------------------------------------------------------------------------------


def _released(settings: Settings) -> dict[str, Any]:
    released = reproduce_released.read(settings.released)
    encode = _encoders(settings)["names"]
    texts = [name.replace("_", " ") for each in nd.dissect.CONCEPT_SETS.values() for name in each.names]
    texts += [name.replace("_", " ") for names in released.concepts.values() for name in names]
    texts += [name.replace("_", " ") for numbers in released.classes.values() for name in numbers.values()]
    texts += [f"This is an audio about {texts[0]}"]
    encoder = encode(texts)
    reasons: dict[str, str] = {}
    again = list(relabelled(released, encode, reasons, settings.progress))
    for method, target in dict.fromkeys((each.method, each.target) for each in again):
        told = json.dumps(as_released(again, method, target), indent=1, ensure_ascii=False) + "\n"
        replace(settings.out.expanduser() / "labels" / f"{method.lower()}-{target}-top5.json", told.encode())
    scores = [
        {
            "file": each.file,
            "method": each.method,
            "target": each.target,
            "function": each.function,
            "asked": each.asked,
            "note": each.note,
            "found": None if each.found is None else figures(each.found),
        }
        for each in scored(released, encoder)
    ]
    return {
        "released": {
            "folder": str(released.folder),
            "scores": scores,
            "again": [_again(each, encoder) for each in again],
            "not_done": reasons,
            "unused": released.unused,
            "skipped": released.skipped,
        }
    }


def _again(each: Any, encoder: Any) -> dict[str, Any]:
    last = each.labels.last_layer(each.truth, encoder) if each.truth is not None else {}
    return {
        "method": each.method,
        "target": each.target,
        "layer": each.layer,
        "units": len(next(iter(each.labels.top.values()))),
        "functions": {
            function: {
                "found": figures(last[function]) if function in last else None,
                "agreement": each.agreement.get(function),
            }
            for function in each.labels.top
        },
    }
