"""The natural inputs of an atlas: their pictures and sounds, and which of them each unit shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from nd_jax.domain import Domain, LogMel, Sound
from nd_jax.report import pictures
from nd_jax.report.page import Page, fingerprint
from nd_jax.report.sounds import Played, at_playback_level, encode_wav, sounds

if TYPE_CHECKING:
    from nd_jax.dissect.exemplars import Exemplars

_MOST_POINTS = 128


def played(sound: Played) -> dict[str, Any]:
    """What the page says about a sound."""
    return {
        "gain": round(sound.gain_db, 1),
        "limited": round(sound.limited_db, 1) if sound.limited_db >= 0.1 else 0,
        "silent": sound.silent,
        "seconds": len(sound.sound.wave) / sound.sound.sample_rate,
    }


class Natural:
    """Writes the clips of some exemplars once, however many units show them, and describes them per unit.

    Args:
      page: where the files go.
      domain: of the network's input.
      exemplars: what `nd_jax.dissect.exemplars` found, or None.
      tick: told of every clip that is done.
    """

    def __init__(self, page: Page, domain: Domain, exemplars: Exemplars | None, *, tick: Callable[[int], None]):
        self.exemplars = exemplars
        self._clips: dict[int, dict[str, Any]] = {}
        if exemplars is None:
            return
        described = fingerprint(domain.to_dict(), exemplars.sample_rate)
        fresh = []
        for position, clip in enumerate(exemplars.kept):
            content = [exemplars.inputs[position]]
            content += [] if exemplars.waves is None else [exemplars.waves[position]]
            name = fingerprint(described, *content)
            about = page.recall(name, f"natural/{clip}")
            if about is None:
                fresh.append((position, int(clip), name))
            else:
                self._clips[int(clip)] = about | {"name": exemplars.names[position]}
                tick(1)
        made = sounds(domain, exemplars.inputs[[position for position, _, _ in fresh]])
        for position, clip, name in fresh:
            about = self._write(page, domain, exemplars, position, clip, None if made is None else next(made))
            page.remember(name, f"natural/{clip}", about.pop("files"), about)
            self._clips[clip] = about | {"name": exemplars.names[position]}
            tick(1)

    def _write(
        self, page: Page, domain: Domain, exemplars: Exemplars, position: int, clip: int, made: Sound | None
    ) -> dict[str, Any]:
        picture = domain.picture(exemplars.inputs[position])
        assert picture is not None
        page.add(f"natural/{clip}.png", pictures.png(picture))
        about: dict[str, Any] = {"files": [".png"]}
        heard = {} if made is None else {"sound": made}
        if exemplars.waves is not None:
            heard = {"sound": Sound(exemplars.waves[position], exemplars.sample_rate)}
            if isinstance(domain, LogMel) and made is not None:
                heard["twin"] = made
        for kind, ending in (("sound", ".wav"), ("twin", ".twin.wav")):
            if kind in heard:
                ready = at_playback_level(heard[kind])
                about[kind] = played(ready)
                if not ready.silent:
                    page.add(f"natural/{clip}{ending}", encode_wav(ready.sound))
                    about["files"].append(ending)
        return about

    def of(self, layer: str, unit: int) -> dict[str, Any]:
        """The clips at each quantile for one unit: what goes into its details."""
        found = self.exemplars
        if found is None or unit < 0 or layer not in found.clips or unit >= len(found.clips[layer]):
            return {}
        rows = []
        for column, quantile in enumerate(found.quantiles):
            clip = int(found.clips[layer][unit, column])
            if clip < 0:
                continue
            row: dict[str, Any] = {
                "clip": clip,
                "quantile": quantile,
                "rank": int(found.ranks[layer][unit, column]),
                "value": float(found.activations[layer][unit, column]),
            }
            if layer in found.curves:
                row["curve"] = _thinned(found.curves[layer][unit, column])
            rows.append(row)
        return {"natural": rows, "constant": bool(found.constant[layer][unit])}

    def constant(self, layer: str, unit: int) -> bool:
        """Whether a unit was read on the natural inputs and gave the same value on every one of them."""
        constant = {} if self.exemplars is None else self.exemplars.constant
        return 0 <= unit < len(constant.get(layer, ())) and bool(constant[layer][unit])

    def clips(self, entries: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
        """What the page says about the clips that some units show."""
        shown = {row["clip"] for entry in entries for row in entry.get("natural", ())}
        return {clip: self._clips[clip] for clip in sorted(shown)}


def _thinned(curve: np.ndarray) -> list[float]:
    """At most 128 points, block means; four digits are more than a curve of 40 pixels shows."""
    values = np.nan_to_num(np.asarray(curve, np.float64))
    size = -(-len(values) // _MOST_POINTS)
    if size > 1:
        edges = np.arange(0, len(values), size)
        values = np.add.reduceat(values, edges) / np.diff(np.append(edges, len(values)))
    return [float(f"{value:.4g}") for value in values]
