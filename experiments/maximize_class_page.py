"""What `maximize_class.py` keeps of its lanes, and the figures and the page that it makes of them."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nd_jax as nd
from nd_jax import generators, report
from nd_jax.domain.playing import sounds
from nd_jax.experiments import maximize_class_sound as own_sound
from nd_jax.proportions import proportion
from nd_jax.report.leaflet import Leaflet
from nd_jax.report.sheets import compose, replace
from nd_jax.runtime import require
from nd_jax.visualize import classes as by_class
from nd_jax.visualize.parameterizations import norm_percentile
from nd_jax.visualize.parameterizations.latents import projected

# Wong 2011, "Points of view: Color blindness": told apart by everybody, and by their dashes too.
_LINES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."))
_WORDS = {
    "none": "no class to ask for",
    "target": "asked for the class itself",
    "another": "asked for another class",
    "free": "free mixture of classes",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """Lanes of one condition; n of them, of which the first seeds are shown.

    Attributes:
      targets, seeds: (n,).
      z: (n, latent), at the end.
      label: (n, classes of the generator), what it was asked for at the end; (n, 0) without classes.
      moments: (k,), the steps of the snapshots; the last is the end.
      chances: (k, n, classes), softmax probabilities of the classifier at the snapshots.
      scores: (k, n), the objective without penalties.
      percentile: (2, n), how many percent of latents are shorter, at the start and at the end.
      shown: (m,), which lanes have pictures.
      pictures: (k, m, *domain.shape).
      free_z, free_label: (k, m, ...), what was free at the snapshots; (k, m, 0) for what there is not.
      seconds: what they took.
    """

    targets: np.ndarray
    seeds: np.ndarray
    z: np.ndarray
    label: np.ndarray
    moments: np.ndarray
    chances: np.ndarray
    scores: np.ndarray
    percentile: np.ndarray
    shown: np.ndarray
    pictures: np.ndarray
    free_z: np.ndarray
    free_label: np.ndarray
    seconds: float

    @staticmethod
    def of(
        result: nd.Visualization, generator: nd.Network, targets: np.ndarray, settings: Any, seconds: float
    ) -> Condition:
        """From a result of `maximize_classes`; the settings are those of the script."""
        network = result.network
        assert network is not None
        pictures = np.asarray(result.snapshots)
        chances = by_class.said(network, pictures.reshape(-1, *pictures.shape[2:]), settings.part)
        z = np.asarray(result.parameters["z"])
        label = np.asarray(result.parameters.get("label", np.zeros((len(z), 0))), np.float32)
        if label.shape[1] and not np.all(label.max(axis=1) == 1):
            label = np.asarray(jax.nn.softmax(label, axis=1))
        latent = generators.latent_of(generator)
        begun = jnp.asarray(result.way["z"][0])
        start = norm_percentile(projected(begun, latent) if settings.project else begun, latent.law)
        kept = np.flatnonzero(result.replicates < settings.shown)
        return Condition(
            targets=np.tile(targets, len(z) // len(targets)),
            seeds=np.asarray(result.replicates),
            z=z,
            label=label,
            moments=np.asarray(result.snapshot_steps),
            chances=chances.reshape(*pictures.shape[:2], -1).astype(np.float32),
            scores=np.asarray(result.history),
            percentile=np.stack([start, np.asarray(result.norm_percentile())]),
            shown=kept,
            pictures=pictures[:, kept],
            free_z=np.asarray(result.way["z"])[:, kept],
            free_label=np.asarray(result.way.get("label", np.zeros((*pictures.shape[:2], 0))), np.float32)[:, kept],
            seconds=seconds,
        )

    def upto(self, seeds: int) -> Condition:
        """The lanes of seeds below a number."""
        keep = self.seeds < seeds
        place = np.cumsum(keep) - 1
        seen = keep[self.shown]
        return dataclasses.replace(
            self,
            **{name: getattr(self, name)[keep] for name in ("targets", "seeds", "z", "label")},
            **{name: getattr(self, name)[:, keep] for name in ("chances", "scores", "percentile")},
            shown=place[self.shown[seen]],
            **{name: getattr(self, name)[:, seen] for name in ("pictures", "free_z", "free_label")},
        )

    def reached(self, moment: int, target: int | None = None) -> by_class.Reached:
        """What was recognised at a snapshot, of all classes or of one."""
        chosen = np.ones(len(self.targets), bool) if target is None else self.targets == target
        return by_class.reached(self.chances[moment][chosen], self.targets[chosen])


def joined(parts: Sequence[Condition]) -> Condition:
    """Parts of the seeds as one; their lanes stand in the same order."""
    counts = np.cumsum([0, *(len(part.targets) for part in parts[:-1])])
    shown = [part.shown + count for part, count in zip(parts, counts, strict=True)]
    return Condition(
        **{
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ("targets", "seeds", "z", "label")
        },
        **{
            name: np.concatenate([getattr(part, name) for part in parts], axis=1)
            for name in ("chances", "scores", "percentile", "pictures", "free_z", "free_label")
        },
        moments=parts[0].moments,
        shown=np.concatenate(shown),
        seconds=sum(part.seconds for part in parts),
    )


def figures(network: nd.Network, found: Mapping[str, Condition], settings: Any, own: bool = False) -> dict[str, Any]:
    """All numbers of the page, JSON-ready; `own` says that sounds are the generator's and not made of pictures."""
    names = by_class.class_names(network, settings.part)
    told: dict[str, Any] = {}
    for name, lanes in found.items():
        told[name] = {
            "lanes": len(lanes.targets),
            "seconds": round(lanes.seconds, 1),
            "before": dataclasses.asdict(lanes.reached(0)),
            "after": dataclasses.asdict(lanes.reached(-1)),
            "score": [float(np.mean(lanes.scores[moment])) for moment in (0, -1)],
            "latent_percentile": [float(np.median(row)) for row in lanes.percentile],
            "share_by_step": {
                str(step): lanes.reached(place).share["value"] for place, step in enumerate(lanes.moments.tolist())
            },
            "classes": {
                names[target]: {
                    "before": dataclasses.asdict(lanes.reached(0, target)),
                    "after": dataclasses.asdict(lanes.reached(-1, target)),
                }
                for target in np.unique(lanes.targets).tolist()
            },
        }
        if network.input.is_sound and not own:
            told[name]["heard"] = _heard(network, lanes, settings.part)
        if lanes.label.shape[1] and name == "free":
            told[name]["largest_weight"] = float(np.median(lanes.label.max(axis=1)))
    settings_told = {field.name: _plain(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    return {"settings": settings_told, "conditions": told}


def _heard(network: nd.Network, lanes: Condition, part: str | None) -> dict[str, Any]:
    """What is still recognised of the shown lanes when they were made into sound and analysed again."""
    domain: Any = network.input
    made = sounds(domain, lanes.pictures[-1])
    assert made is not None
    waves = np.stack([nd.audio.fit(sound.wave, domain.samples) for sound in made])
    again = domain.from_wave(waves) if hasattr(domain, "from_wave") else waves.reshape(-1, *domain.shape)
    said = by_class.said(network, np.asarray(again), part)
    return proportion(said.argmax(axis=1) == lanes.targets[lanes.shown])


def write(network: nd.Network, generator: nd.Network, found: Mapping[str, Condition], settings: Any) -> pathlib.Path:
    """Writes figures.json, the page of trajectories and index.html; returns the path of the last.

    Raises:
      MissingExtraError: matplotlib or Pillow is missing.
    """
    out, domain = settings.out.expanduser(), network.input
    own = own_sound.has_own(network, generator)
    heard = {name: _own(generator, name, lanes, settings) if own else {} for name, lanes in found.items()}
    told = figures(network, found, settings, own)
    replace(out / "figures.json", (json.dumps(told, indent=1) + "\n").encode())
    names = by_class.class_names(network, settings.part)
    first = next(iter(found.values()))
    moments = first.moments.tolist()
    title = f"{_name(generator, settings.generator)} → {_name(network, settings.network)}"
    sheet = Leaflet(
        out,
        f"Classes maximised: {title}",
        "Each class of the classifier is climbed through the latent of the generator: its logit minus the mean of the "
        "others"
        + (f", minus {settings.l2:g} ‖z‖² / D" if settings.l2 else "")
        + (f", minus {settings.l1:g} ‖z‖₁ / D" if settings.l1 else "")
        + (f", z kept {_where(generator)}" if settings.project else "")
        + f". {settings.steps} steps, snapshots at {', '.join(map(str, moments))}. Before is the generator's own "
        "sample of the same latent and class; after is the last snapshot. Intervals are 95 %.",
    )
    sheet.table(*_overview(told))
    sheet.figure(
        "reached.png",
        _curves(found),
        "Share recognised and mean probability of the class over the steps",
        "Over all classes; bands are 95 % intervals.",
    )
    sheet.link(
        "trajectories/index.html", "The first seed of each class at every snapshot, with a slider over the steps"
    )
    sheet.heading("By class: recognised before → after, mean probability after")
    sheet.table(*_by_class(told))
    for target in np.unique(first.targets).tolist():
        _one_class(sheet, found, target, names, domain, heard)
    _trajectories(found, names, domain, out / "trajectories", title, heard)
    sheet.link("figures.json", "All numbers")
    return sheet.finish()


def _where(generator: nd.Network) -> str:
    uniform = generators.latent_of(generator).law == "uniform"
    return "inside −1 … 1, where training had it" if uniform else "at its usual length ‖z‖ = √d"


def _own(generator: nd.Network, name: str, lanes: Condition, settings: Any) -> own_sound.Heard:
    """The generator's own sounds that the pages play: of all shown lanes before and after, of the first on the way."""
    last, targets = len(lanes.moments) - 1, np.unique(lanes.targets).tolist()
    wanted = {(place, lane) for place in (0, last) for lane in range(len(lanes.shown))}
    wanted |= {(place, _lanes(lanes, target)[0]) for place in range(last) for target in targets}
    free = {"z": lanes.free_z, "label": lanes.free_label}
    return own_sound.own(generator, free, sorted(wanted), name, settings.project)


def _overview(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["condition", "lanes", "recognised before", "recognised after", "mean probability before", "and after"]
    head += ["objective before → after", "latents that are shorter, before → after (median)"]
    listened = any("heard" in each for each in told["conditions"].values())
    head += ["recognised after being made into sound, of those shown"] if listened else []
    rows = []
    for name, each in told["conditions"].items():
        rows.append(
            [
                _WORDS[name],
                f"{each['lanes']:,}",
                share(each["before"]["share"]),
                share(each["after"]["share"]),
                chance(each["before"]),
                chance(each["after"]),
                f"{each['score'][0]:.1f} → {each['score'][1]:.1f}".replace("-", "−"),
                f"{each['latent_percentile'][0]:.0f} % → {each['latent_percentile'][1]:.1f} %",
                *([share(each["heard"])] if "heard" in each else []),
            ]
        )
    return head, rows


def _by_class(told: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    conditions = told["conditions"]
    rows = []
    for name in next(iter(conditions.values()))["classes"]:
        row = [name]
        for each in conditions.values():
            before, after = each["classes"][name]["before"], each["classes"][name]["after"]
            row += [f"{100 * before['share']['value']:.0f} % → {share(after['share'])}", chance(after)]
        rows.append(row)
    head = ["class"]
    for name in conditions:
        head += [_WORDS[name], "probability"]
    return head, rows


def share(told: Mapping[str, Any]) -> str:
    """A share with its interval."""
    return f"{100 * told['value']:.1f} % ({100 * told['low']:.1f} to {100 * told['high']:.1f})"


def chance(told: Mapping[str, Any]) -> str:
    """A mean probability with its interval."""
    return f"{told['probability']:.3f} ({told['low']:.3f} to {told['high']:.3f})"


def _curves(found: Mapping[str, Condition]) -> Any:
    require("matplotlib", "report")
    figure = require("matplotlib.figure", "report").Figure(figsize=(9.0, 3.2), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, lanes), (colour, dashes) in zip(found.items(), _LINES, strict=False):
        told = [lanes.reached(place) for place in range(len(lanes.moments))]
        shares = np.asarray([(each.share["value"], each.share["low"], each.share["high"]) for each in told])
        means = np.asarray([(each.probability, each.low, each.high) for each in told])
        for axes, values in ((left, shares), (right, means)):
            axes.plot(lanes.moments, values[:, 0], dashes, color=colour, label=_WORDS[name])
            axes.fill_between(lanes.moments, values[:, 1], values[:, 2], color=colour, alpha=0.15, linewidth=0)
    for axes, words in ((left, "share recognised as the class"), (right, "mean probability of the class")):
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="step", ylabel=words, ylim=(-0.02, 1.02), xlim=(0, None))
        axes.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8)
    return figure


def _one_class(
    sheet: Leaflet,
    found: Mapping[str, Condition],
    target: int,
    names: Sequence[str],
    domain: nd.domain.Domain,
    heard: Mapping[str, own_sound.Heard],
) -> None:
    """The way of some seeds as a picture and an animation, and what they were and became."""
    sheet.heading(f"Class {names[target]}")
    moments = next(iter(found.values())).moments
    rows = [(name, lanes, lane) for name, lanes in found.items() for lane in _lanes(lanes, target)]
    shown = np.stack([lanes.pictures[:, lane] for _, lanes, lane in rows])
    strip = compose(
        shown.reshape(-1, *shown.shape[2:]),
        domain,
        columns=len(moments),
        titles=[f"step {step}" for step in moments] * len(rows),
        tile=64,
    )
    words = ", ".join(_WORDS[name] for name in found)
    sheet.figure(
        f"class-{target}.png",
        strip,
        f"Snapshots of class {names[target]}",
        f"Rows from the top: {len(rows) // len(found)} seeds each, {words}.",
    )
    frames = [
        compose(
            shown[:, place],
            domain,
            columns=len(rows) // len(found),
            # With the condition, so that titles of a column differ and all frames have one size.
            titles=[f"{name}: {_says(lanes, place, lane, names)}" for name, lanes, lane in rows],
            caption=f"class {names[target]}, step {step}",
            tile=112,
        )
        for place, step in enumerate(moments)
    ]
    sheet.animation(
        f"class-{target}.gif", frames, f"The same lanes of class {names[target]} over the steps", seconds=5.0
    )
    titles, facts, pictures, made = [], [], [], []
    for name, lanes, lane in rows:
        for place, when in ((0, "before"), (-1, "after")):
            seed = lanes.seeds[lanes.shown[lane]]
            titles.append(f"seed {seed}, {when}")
            facts.append([_WORDS[name], f"says {_says(lanes, place, lane, names)}"])
            pictures.append(lanes.pictures[place, lane])
            made += [heard[name][place % len(moments), lane]] if heard[name] else []
    sheet.tiles(
        f"class-{target}",
        np.stack(pictures),
        domain,
        titles=titles,
        facts=facts,
        made=made or None,
        made_of=own_sound.MADE_OF if made else None,
    )


def _lanes(lanes: Condition, target: int) -> list[int]:
    """The shown lanes of a class, as rows of `pictures`."""
    return [row for row, lane in enumerate(lanes.shown) if lanes.targets[lane] == target]


def _says(lanes: Condition, place: int, lane: int, names: Sequence[str]) -> str:
    chances = lanes.chances[place, lanes.shown[lane]]
    return f"{names[int(chances.argmax())]}, {100 * chances.max():.0f} %"


def _trajectories(
    found: Mapping[str, Condition],
    names: Sequence[str],
    domain: nd.domain.Domain,
    folder: pathlib.Path,
    title: str,
    heard: Mapping[str, own_sound.Heard],
) -> None:
    """The page of players with a slider over the steps: the first seed of each class and condition."""
    picked = [
        (name, lanes, _lanes(lanes, target)[0])
        for target in np.unique(next(iter(found.values())).targets).tolist()
        for name, lanes in found.items()
    ]
    own = all(heard.values())
    for place, step in enumerate(next(iter(found.values())).moments.tolist()):
        report.players(
            np.stack([lanes.pictures[place, lane] for _, lanes, lane in picked]),
            domain,
            folder,
            titles=[_WORDS[name] for name, _, _ in picked],
            groups=[f"class {names[lanes.targets[lanes.shown[lane]]]}" for _, lanes, lane in picked],
            facts=[{"seed": int(lanes.seeds[lanes.shown[lane]])} for _, lanes, lane in picked],
            step=step,
            title=f"Trajectories: {title}",
            about="Steps are those of the optimisation.",
            made=[heard[name][place, lane] for name, _, lane in picked] if own else None,
            made_of=own_sound.MADE_OF if own else None,
        )


def _name(network: nd.Network, given: str) -> str:
    return str(network.card.get("name") or given)


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
