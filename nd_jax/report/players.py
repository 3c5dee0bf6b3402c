"""`players`: a static page with a spectrogram, a waveform and a player for every sample, at every step of a training.

    folder/index.html                the page: its own CSS and JavaScript
    folder/samples.json              what each sample is, and how its sound came to playback level at each step
    folder/steps/00000500/           what is shown of one step: 000.png 000.wav ..., made.json, data.js

It opens from the disk, with no server and no network. A step's folder is complete or it is not there.
"""

from __future__ import annotations

import base64
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.domain import Domain, Sound
from nd_jax.report import pictures
from nd_jax.report.natural import played
from nd_jax.report.page import document, ramp
from nd_jax.report.sheets import pictures_of, replace
from nd_jax.report.sounds import LOUDNESS, Played, at_playback_level, encode_wav, sounds

_STEP = re.compile(r"\d{8,}")
_POINTS = 96


def players(
    outputs: Any,
    domain: Domain,
    folder: Any,
    *,
    titles: Sequence[str] = (),
    groups: Sequence[str] = (),
    facts: Sequence[Mapping[str, Any]] = (),
    step: int = 0,
    title: str = "Samples",
    about: str = "",
    made: Iterable[Sound] | None = None,
    made_of: str | None = None,
) -> pathlib.Path:
    """Writes, or adds a step to, a page on which samples are looked at and listened to.

    Pictures share one colour range (the domain's), sounds one loudness (-20 LUFS, with the gain and the limiter's work
    stated); what is silent is called silent. With several steps a slider goes through them for the same samples. The
    same call again writes the same files.

    Args:
      outputs: (n, *domain.shape), or a dict of them for a domain of parts.
      domain: what they are; sound, or images, which are shown without players.
      folder: where; other files in it stay.
      titles: a name for each; by default "sample 0", ...
      groups: the class of each; samples of one class stand together.
      facts: what else is known of each (seed, number, class), for samples.json.
      step: of the training after which these were made. Steps of other samples than these leave the page.
      title: heading of the page.
      about: a line below it.
      made: the sounds, when they are known already.
      made_of: how pictures and sounds come about, where it is another way than the domain's.

    Returns:
      The path of index.html.

    Raises:
      ValueError: no samples, a domain that cannot be drawn, or another number of titles, groups or facts.
      MissingExtraError: Pillow or matplotlib is missing.
    """
    place = pathlib.Path(folder)
    drawn = pictures_of(outputs, domain)
    for name, given in (("titles", titles), ("groups", groups), ("facts", facts)):
        if given and len(given) != len(drawn):
            raise ValueError(f"{len(given)} {name} for {len(drawn)} samples")
    samples = [
        {
            "title": str(titles[index]) if titles else f"sample {index}",
            **({"group": str(groups[index])} if groups else {}),
            **(dict(facts[index]) if facts else {}),
        }
        for index in range(len(drawn))
    ]
    found = made if made is not None else sounds(domain, outputs)
    heard = None if found is None else [at_playback_level(sound) for sound in found]
    _write_step(place / "steps", step, samples, [pictures.png(picture) for picture in drawn], heard)
    said = "" if heard is None else _said(domain.made_of if made_of is None else made_of)
    page = {
        "title": title,
        "about": " ".join(filter(None, [about, said])),
        "sound": heard is not None,
        "picture": pictures.described(drawn[0]),
        "ramps": {theme: ramp(theme) for theme in pictures.MAPS},
        "samples": samples,
    }
    return _write_page(place, page)


def steps(folder: Any) -> list[int]:
    """The steps that a page holds, in order."""
    place = pathlib.Path(folder) / "steps"
    return sorted(int(path.name) for path in place.glob("*") if _STEP.fullmatch(path.name) and path.is_dir())


def forget(folder: Any, after: int) -> None:
    """Removes the steps later than one, as a training that goes on from there makes them again."""
    for step in steps(folder):
        if step > after:
            shutil.rmtree(_place(pathlib.Path(folder) / "steps", step), ignore_errors=True)


def _place(folder: pathlib.Path, step: int) -> pathlib.Path:
    return folder / f"{step:08d}"


def _said(made_of: str) -> str:
    loud = f"All sounds are played at {LOUDNESS:g} LUFS, the gain stated, with a peak limiter.".replace("-", "−")
    return f"{loud} {made_of}".rstrip()


def _write_step(
    folder: pathlib.Path,
    step: int,
    samples: Sequence[Mapping[str, Any]],
    images: Sequence[bytes],
    heard: Sequence[Played] | None,
) -> None:
    """All files of a step beside their place, which they take together."""
    place = _place(folder, step)
    draft, old = folder / f".{place.name}.draft", folder / f".{place.name}.old"
    for rest in (draft, old):
        shutil.rmtree(rest, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        entries = []
        for index, image in enumerate(images):
            (draft / f"{index:03d}.png").write_bytes(image)
            if heard is not None:
                entries.append(played(heard[index]))
                if not heard[index].silent:
                    (draft / f"{index:03d}.wav").write_bytes(encode_wav(heard[index].sound))
        about = {"step": step, "samples": list(samples), "sounds": entries}
        (draft / "made.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        drawn = [entry | {"wave": _envelope(one.sound)} for entry, one in zip(entries, heard or (), strict=True)]
        call = f"ND({json.dumps(f'{place.name}/data')},{json.dumps({'sounds': drawn}, separators=(',', ':'))});\n"
        (draft / "data.js").write_text(call, encoding="utf-8")
        if place.exists():
            os.replace(place, old)
        os.replace(draft, place)
    finally:
        for rest in (draft, old):
            shutil.rmtree(rest, ignore_errors=True)


def _write_page(folder: pathlib.Path, page: dict[str, Any]) -> pathlib.Path:
    found = []
    for step in steps(folder):
        place = _place(folder / "steps", step)
        about = _read(place / "made.json")
        if about is None or about["samples"] != json.loads(json.dumps(page["samples"])):
            shutil.rmtree(place, ignore_errors=True)
        else:
            found.append(about)
    index = {**page, "base": "steps", "single": False, "steps": [about["step"] for about in found]}
    filled = document(
        index, title=page["title"], scripts=("common.js", "samples.js"), styles=("atlas.css", "samples.css")
    )
    listed = {
        "title": page["title"],
        "samples": page["samples"],
        "steps": [{"step": about["step"], "sounds": about["sounds"]} for about in found],
    }
    replace(folder / "samples.json", (json.dumps(listed, indent=1, ensure_ascii=False) + "\n").encode())
    return replace(folder / "index.html", filled.encode())


def _read(path: pathlib.Path) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"step", "samples", "sounds"} <= set(found) else None


def _envelope(sound: Sound) -> str:
    """The peaks of at most 96 stretches of a sound, full scale 255, as base64 text."""
    wave = np.abs(np.asarray(sound.wave, np.float64))
    if not wave.size:
        return ""
    count = min(_POINTS, wave.size)
    edges = [math.floor(place) for place in np.linspace(0, wave.size, count + 1)[:-1]]
    peaks = np.clip(np.maximum.reduceat(wave, edges), 0, 1)
    return base64.b64encode(np.round(255 * peaks).astype(np.uint8).tobytes()).decode("ascii")
