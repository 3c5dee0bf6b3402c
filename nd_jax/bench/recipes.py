"""The recipes that are compared: nd_jax's default, a plain Lucid recipe, and the default with one idea changed."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from nd_jax import pytree, tuning
from nd_jax.bench.generated import components
from nd_jax.bench.planted import LAYER, Planted
from nd_jax.domain import Domain, Image, LogMel
from nd_jax.visualize import Visualization, parameterizations, penalties, transforms, visualize_batch

QUIET, REST = 0.3, 0.1
"""A silence prior: standard deviations of a natural activation that one dB of mean level costs, and the share of it
that is kept in the polish."""
DEMO_QUIET, DEMO_REST = 1.0, 0.2
"""The same in `experiments/visualize.py`."""
_COMPONENTS = 128


@functools.partial(pytree.register, data_fields=["inner"], meta_fields=["picture"])
@dataclasses.dataclass(frozen=True, eq=False)
class Painted:
    """A parameterization of pictures put to spectrograms: time and frequency are two axes of one picture to it.

    Attributes:
      inner: the parameterization.
      picture: an `Image` domain of the spectrogram's shape and range.
    """

    inner: Any
    picture: Image

    @property
    def name(self) -> str:
        """Short and unique."""
        return f"{self.inner.name}, of pictures"

    def init(self, key: jax.Array, domain: Domain) -> Any:
        """As the inner one's."""
        return self.inner.init(key, self.picture)

    def apply(self, parameters: Any, domain: Domain) -> jax.Array:
        """As the inner one's."""
        return self.inner.apply(parameters, self.picture)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One way to look for what units like.

    Attributes:
      name: short and unique.
      idea: what is different from the default, in plain words.
      parameterization: of the domain, None for its default.
      transforms: of the domain, None for its default.
      polish: share of the steps, the last ones, without transforms; None for the default of `visualize_batch`.
      quiet: weight of the silence prior, in standard deviations of a natural activation per dB; 0 for none.
      smooth: weight of total variation along time and frequency, in the same unit per mean step of the whole range.
      rest: the share of the priors that is kept in the polish.
      heard: natural inputs against which the strengths of a silence prior and of the transforms are chosen for each
        network (`nd_jax.tuning`), in place of those above; None for none.
      own_spread: whether the priors are weighed by each unit's own standard deviation on natural sounds, or by the
        median over its layer.
      adds: whether the idea is on in this recipe and off in the default; otherwise it is the other way round.
    """

    name: str
    idea: str
    parameterization: Callable[[LogMel], Any] | None = None
    transforms: Callable[[LogMel], tuple[Any, ...]] | None = None
    polish: float | None = None
    quiet: float = 0.0
    smooth: float = 0.0
    rest: float = 1.0
    own_spread: bool = False
    adds: bool = False
    heard: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def share(self) -> float:
        """The share of the steps that is polish."""
        return float(_POLISH if self.polish is None else self.polish)

    def look(
        self,
        planted: Planted,
        *,
        key: jax.Array,
        steps: int,
        spread: np.ndarray,
        moments: tuple[int, ...],
        probes: Any = None,
        restarts: int = 0,
    ) -> Found:
        """Runs the recipe on a planted network.

        Args:
          planted: the network.
          key: a JAX key.
          steps: in all.
          spread: (units,) what the priors are weighed by.
          moments: steps at which the scores are kept.
          probes: natural inputs for units that do not answer.
          restarts: starts for them; 0 for no rescue.
        """
        domain, last = planted.domain, round(self.share * steps)
        costs: list[Any] = []
        if self.quiet:
            costs.append(penalties.silence(weight=self.quiet))
        if self.smooth:
            costs.append(penalties.total_variation(time=1.0, frequency=1.0, weight=self.smooth))
        chosen = parameterizations.default(domain) if self.parameterization is None else self.parameterization(domain)
        settings: dict[str, Any] = {
            "key": key,
            "parameterization": chosen,
            "transforms": None if self.transforms is None else self.transforms(domain),
            "penalties": costs,
            "scale": spread,
            "probes": probes,
            "restarts": restarts,
            "progress": False,
        }
        if 0 < last < steps and self.rest < 1:
            settings["penalties"] = [penalties.early(cost, 1.0 - self.share, rest=self.rest) for cost in costs]
        if self.heard is not None:
            settings |= self._tuned(planted, key, steps)
        found = visualize_batch(
            planted.network, planted.objective, steps=steps, polish=self.share, snapshots=moments, **settings
        )
        return Found.of(found)

    def _tuned(self, planted: Planted, key: jax.Array, steps: int) -> dict[str, Any]:
        """Chosen strengths as arguments of `visualize_batch`; a choice takes half of the steps."""
        found = tuning.tune(
            planted.network,
            LAYER,
            self.heard,
            key=key,
            objective=planted.objective,
            steps=max(steps // 2, 1),
            polish=self.share,
            progress=False,
        ).arguments()
        return {name: found[name] for name in ("penalties", "transforms", "strengths", "scale")}


_POLISH = inspect.signature(visualize_batch).parameters["polish"].default


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What a recipe found: inputs (n, bands, frames, 1), scores (n,), dead (n,), scores on the way (moments, n)."""

    inputs: np.ndarray
    scores: np.ndarray
    dead: np.ndarray
    status: tuple[str, ...]
    moments: tuple[int, ...]
    history: np.ndarray

    @staticmethod
    def of(result: Visualization) -> Found:
        """From a result of `visualize_batch`."""
        dead = np.asarray([status.startswith("dead") for status in result.status])
        return Found(
            inputs=np.asarray(result.inputs),
            scores=result.scores,
            dead=dead,
            status=result.status,
            moments=result.snapshot_steps,
            history=result.history,
        )


def default() -> Recipe:
    """What `visualize_batch` does when it is not asked for anything else."""
    return Recipe("default", "nd_jax as it comes")


def lucid() -> Recipe:
    """A plain Lucid recipe, for which a spectrogram is an image: its Fourier image, its transforms, no audio priors.

    Source: Lucid, `optvis/render.py` and `optvis/transform.py: standard_transforms` (pad 12, jitter 8, scale 0.9 to
    1.1, rotate by up to 10 degrees, jitter 4 on 128 pixels), here as parts of the shorter side; start in the middle.
    """

    def moves(domain: LogMel) -> tuple[Any, ...]:
        side = min(domain.shape[:2])
        coarse, fine = max(1, side * 8 // 128), max(1, side * 4 // 128)
        # Lucid's 12 pixels of padding give jitter something grey to move in; `fill` does so here.
        return (
            transforms.jitter(coarse, allow_on_sound=True),
            transforms.scale(0.9, 1.1, allow_on_sound=True),
            transforms.rotate(10.0, allow_on_sound=True),
            transforms.jitter(fine, allow_on_sound=True),
        )

    return Recipe(
        "lucid",
        "all that the default has beyond a plain Lucid recipe",
        parameterization=lambda domain: parameterizations.fourier(start=0.5),
        transforms=moves,
        polish=0.0,
    )


def variants(base: Recipe, domain: LogMel, natural: np.ndarray) -> tuple[Recipe, ...]:
    """The base recipe with each idea changed: taken away where it is on, added where it is off.

    Args:
      base: what is changed.
      domain: of the planted networks.
      natural: (n, *domain.shape) natural inputs, which the axis scale and the magnitudes are measured on.
    """
    change = functools.partial(_changed, base)
    generator = components(natural, domain, min(_COMPONENTS, len(natural) - 1))
    prior, free = (parameterizations.prior(generator, project=project) for project in (True, False))
    usual = base.transforms(domain) if base.transforms is not None else transforms.default(domain)
    return (
        *_parameterizations(change, domain, natural, prior, free),
        change(
            "automatic settings",
            "strengths of a silence prior and of the transforms, chosen by the network's natural activations",
            heard=natural,
            adds=True,
        ),
        change("white spectrum", "1/f weights of the spectrum", parameterization=_fourier(decay=0.0)),
        change("start 0.5", "start at -64 dB and not at -40 dB", parameterization=_fourier(start=0.5)),
        change("start mean", "start at the mean of natural sound", parameterization=_fourier(start="mean"), adds=True),
        *_transforms(change, domain, usual, prior),
        *_priors(change),
        change("no polish", "polish: the last half of the steps without transforms, cell by cell", polish=0.0),
    )


def _changed(base: Recipe, name: str, idea: str, **fields: Any) -> Recipe:
    return dataclasses.replace(base, name=name, idea=idea, **fields)


def _fourier(**fields: Any) -> Callable[[LogMel], Any]:
    return lambda domain: dataclasses.replace(parameterizations.default(domain), **fields)  # type: ignore[type-var]


def _parameterizations(
    change: Callable[..., Recipe], domain: LogMel, natural: np.ndarray, prior: Any, free: Any
) -> list[Recipe]:
    natural_scale = parameterizations.natural_scale(domain, natural).axis_scale
    maco, harmonic = parameterizations.maco(natural, domain), parameterizations.harmonic()
    picture = Image(domain.shape, domain.low, domain.high)
    painted = Painted(parameterizations.maco(natural, picture), picture)
    return [
        change("pixels", "Fourier parameterization", parameterization=lambda _: parameterizations.pixels()),
        change("no fine", "single cells move in the polish", parameterization=_fourier(fine=False)),
        change("bands", "band decorrelation", parameterization=_fourier(bands="covariance"), adds=True),
        change(
            "axis scale",
            "frequency scale per axis, from natural sound",
            parameterization=_fourier(axis_scale=natural_scale),
            adds=True,
        ),
        change(
            "maco",
            "phases along time only, magnitudes per band from natural sound",
            parameterization=lambda _: maco,
            adds=True,
        ),
        change(
            "maco, of pictures",
            "phases of the whole picture, its magnitudes from natural sound",
            parameterization=lambda _: painted,
            adds=True,
        ),
        change("harmonic", "a sound of partials and noise", parameterization=lambda _: harmonic, adds=True),
        change(
            "generator prior",
            "a generator of natural sound, its latent kept at its usual length",
            parameterization=lambda _: prior,
            adds=True,
        ),
        change(
            "generator prior, free length",
            "a generator of natural sound, its latent free",
            parameterization=lambda _: free,
            adds=True,
        ),
    ]


def _transforms(change: Callable[..., Recipe], domain: LogMel, usual: tuple[Any, ...], prior: Any) -> Iterator[Recipe]:
    yield change("no transforms", "all transforms together", transforms=lambda _: ())
    for place, item in enumerate(usual):
        rest = (*usual[:place], *usual[place + 1 :])
        yield change(f"no {_words(item)}", _words(item), transforms=lambda _, rest=rest: rest)
    for item in (transforms.latent_noise(0.3), transforms.latent_dropout(0.3)):
        yield change(
            f"generator prior + {_words(item)}",
            f"a generator of natural sound with {_words(item)}",
            parameterization=lambda _: prior,
            transforms=lambda _, item=item: (*usual, item),
            adds=True,
        )
    frame = domain.seconds_per_frame
    for item in (
        transforms.noise(level_db=-60.0),
        transforms.time_mask(0.1 * domain.frames * frame),
        transforms.band_mask(max(1, domain.shape[0] // 10)),
        transforms.blur(frame),
        transforms.bilateral(frame),
    ):
        name = _words(item)
        if name not in map(_words, usual):
            yield change(f"+ {name}", name, transforms=lambda _, item=item: (*usual, item), adds=True)


def _priors(change: Callable[..., Recipe]) -> list[Recipe]:
    quiet = functools.partial(change, quiet=QUIET, adds=True)
    return [
        quiet("silence prior", "silence prior to the end"),
        quiet("silence prior, early", "silence prior, a tenth of it in the polish", rest=REST),
        quiet("silence prior by unit", "silence prior to the end, in each unit's own spread", own_spread=True),
        change("+ total variation", "total variation", smooth=10.0, adds=True),
        change(
            "demo",
            "the demo: spectrum only, a silence prior that fades",
            quiet=DEMO_QUIET,
            rest=DEMO_REST,
            parameterization=_fourier(fine=False),
            adds=True,
        ),
    ]


def _words(transform: Any) -> str:
    """`TimeShift` as "time shift"."""
    name = type(transform).__name__
    return "".join(" " + letter.lower() if letter.isupper() else letter for letter in name).strip()
