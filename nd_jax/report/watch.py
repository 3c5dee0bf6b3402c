"""Looks on while a generator is trained: what it makes of the same latents, as sheets, a page and a GIF."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import jax
import numpy as np

from nd_jax import generators
from nd_jax.network import Network
from nd_jax.report import sheets
from nd_jax.report.pictures import encode_png
from nd_jax.report.players import forget, players
from nd_jax.runtime import require
from nd_jax.training.checkpoints import CheckpointError

# What keeps the GIF small: frames, samples on one, about so many pixels a tile, colours.
_MOST_FRAMES = 60
_ANIMATED = {"image": 36, "sound": 12}
_TILE = 56
_COLOURS = {"image": 32, "sound": 128}


@dataclasses.dataclass
class SampleWatcher:
    """A watcher of a GAN's training: call it with (step, generator, discriminator).

        folder/samples/sheets/00000500.png   what the generator makes of fixed latents
        folder/samples/training.gif          the same latents over the training, at most 60 frames
        folder/samples/index.html            sounds (the first ones) with players, and a slider over the steps; images
                                             likewise, to look at
        folder/samples/frames/00000500.png   the frames of the GIF

    Everything depends on the seed, the generator and the step, so a training that was killed and goes on leaves the
    files of one that was not: what stands there of later steps than the one it is called with is made again. Files are
    written beside their places and moved in.

    Attributes:
      folder: of the training.
      seed: of the latents; sample i depends on it and on i only.
      count: samples on a sheet. A generator with classes is asked for all of them in turn, one column each.
      listed: samples on the page, the first of those.
      animated: samples on a frame of the GIF, likewise; None takes 36 images or 12 sounds.
      columns: of the sheet; None lets the number of samples or of classes decide.
      seconds: the length of the GIF.
      title: heading of the page.
    """

    folder: Any
    seed: int = 0
    count: int = 64
    listed: int = 20
    animated: int | None = None
    columns: int | None = None
    seconds: float = 8.0
    title: str = "Samples during training"

    def __post_init__(self) -> None:
        for name in ("count", "listed", "animated"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, got {value}")

    def __call__(self, step: int, generator: Network, discriminator: Network | None = None) -> dict[str, float]:
        """Draws, and returns {"sample_spread"}: how much outputs differ from one latent to the next.

        The standard deviation over the samples (of one class, where there are classes), averaged over all values, in
        units of the output's range: near 0 the generator makes the same whatever the latent is.

        Raises:
          ValueError: the network is no generator, or what it makes cannot be drawn.
          CheckpointError: the disk refuses.
        """
        given = generators.inputs(generator, self.seed, self.count)
        outputs = generators.make(generator, given)
        place = pathlib.Path(self.folder).expanduser() / "samples"
        try:
            self._write(place, step, generator, given, outputs)
        except OSError as error:
            reason = error.strerror or str(error)
            raise CheckpointError(f"the samples of step {step} cannot be written to {place}: {reason}") from error
        return {"sample_spread": self._spread(generator, given, outputs)}

    def _write(self, place: pathlib.Path, step: int, generator: Network, given: Any, outputs: Any) -> None:
        domain, names = generator.output, generators.classes_of(generator)
        self._forget(place, step, generator)
        classes = [names[label] for label in given["label"]] if names else []
        columns = self.columns or (len(names) if 0 < len(names) <= 16 else None)
        caption, count = f"step {step:,}", _full_rows(self.count, columns)
        drawn = sheets.compose(_first(outputs, count), domain, columns=columns, titles=classes[:count], caption=caption)
        sheets.replace(place / "sheets" / f"{step:08d}.png", encode_png(drawn))
        few = min(self.listed, self.count)
        players(
            _first(outputs, few),
            domain,
            place,
            groups=classes[:few],
            facts=[{"seed": self.seed, "number": number} for number in range(few)],
            step=step,
            title=self.title,
            about=f"The same {few} latents (seed {self.seed}) at every step.",
        )
        few = min(self.animated or _ANIMATED["sound" if domain.is_sound else "image"], self.count)
        few = _full_rows(few, columns)
        drawn = sheets.compose(
            _first(outputs, few), domain, columns=columns, titles=classes[:few], caption=caption, tile=_TILE
        )
        sheets.replace(place / "frames" / f"{step:08d}.png", encode_png(drawn))
        self._animate(place, _COLOURS["sound" if domain.is_sound else "image"])

    def _forget(self, place: pathlib.Path, step: int, generator: Network) -> None:
        """Removes what later steps left, and all there is when it is of other latents or another kind of output."""
        about = {
            **{name: getattr(self, name) for name in ("seed", "count", "animated", "columns")},
            "input": generator.input.to_dict(),
            "output": generator.output.to_dict(),
        }
        text = json.dumps(about, indent=1, default=str) + "\n"
        told = place / "frames" / "of.json"
        same = told.is_file() and told.read_text(encoding="utf-8") == text
        for folder in ("frames", "sheets"):
            for path in (place / folder).glob("[0-9]*.png"):
                if not same or int(path.stem) > step:
                    path.unlink(missing_ok=True)
        forget(place, step if same else -1)
        if not same:
            sheets.replace(told, text.encode())

    def _animate(self, place: pathlib.Path, colours: int) -> None:
        image = require("PIL.Image", "report")
        kept = sorted((place / "frames").glob("[0-9]*.png"), key=lambda path: int(path.stem))
        frames = []
        for index in sheets.thinned(len(kept), _MOST_FRAMES):
            with image.open(kept[index]) as frame:
                frames.append(np.asarray(frame.convert("RGB")))
        sheets.gif(frames, place / "training.gif", seconds=self.seconds, colours=colours)

    def _spread(self, generator: Network, given: Any, outputs: Any) -> float:
        labels = given["label"] if generators.classes_of(generator) else np.zeros(self.count, int)
        domain, spread = generator.output, []
        leaves = jax.tree.leaves(outputs)
        extent = domain.high - domain.low if len(leaves) == 1 and np.isfinite(domain.high - domain.low) else 1.0
        for label in np.unique(labels):
            chosen = [np.asarray(leaf, np.float64)[labels == label] for leaf in leaves]
            spread += [leaf.std(axis=0).mean() / extent for leaf in chosen if len(leaf) > 1]
        return float(np.mean(spread)) if spread else 0.0


def _first(outputs: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], outputs)


def _full_rows(count: int, columns: int | None) -> int:
    """The most samples, at most `count`, that fill rows."""
    return count - count % columns if columns and count > columns else count
