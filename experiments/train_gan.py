"""Trains a GAN and writes its generator and discriminator as networks that nd_jax opens up.

    python experiments/train_gan.py dcgan-mnist --data-dir MNIST --out runs/dcgan_mnist
    python experiments/train_gan.py wgan-mnist --data-dir MNIST --out runs/wgan_mnist
    python experiments/train_gan.py mel-gan --data-dir FSDD --out runs/mel_gan
    python experiments/train_gan.py conditional-mel-gan --data-dir FSDD --out runs/conditional_mel_gan
    python experiments/train_gan.py wavegan --data-dir FSDD --out runs/wavegan
    python experiments/train_gan.py conditional-wavegan --data-dir FSDD --out runs/conditional_wavegan
    python experiments/train_gan.py gansynth-notes --data-dir NOTES --out runs/notes_gansynth

OUT/generator and OUT/discriminator are the trained networks (`nd.load` takes them) with their model cards; beside them
metrics.jsonl, metrics.csv, figures.json (what the judge says of 1,000 samples), sheets of samples and their GIF. The
same command again goes on where an interrupted run was. Recipes: experiments/configs.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import nd_jax as nd
from nd_jax.experiments.configs.emotion_mel_gan import EmotionMelGan
from nd_jax.experiments.configs.gans import GanRecipe, check_devices
from nd_jax.experiments.configs.gansynth import GansynthExperiment, GansynthNotes, GansynthNsynth
from nd_jax.experiments.configs.mel_gans import ConditionalMelGan, MelGan
from nd_jax.experiments.configs.mnist_gans import DcganMnist, DcganMnistSource, WganMnist, WganMnistSource
from nd_jax.experiments.configs.wavegan import ConditionalWavegan, Wavegan
from nd_jax.experiments.judge_gan import Judge, measured, real, table
from nd_jax.report.curves import curves
from nd_jax.report.watch import SampleWatcher
from nd_jax.runtime import MissingExtraError, command_line, enable_compilation_cache, require
from nd_jax.training import CheckpointError, TrainingError, cards, gan, hosts
from nd_jax.training.gan.loop import Watcher

Recipe = (
    DcganMnist
    | WganMnist
    | MelGan
    | ConditionalMelGan
    | EmotionMelGan
    | Wavegan
    | ConditionalWavegan
    | DcganMnistSource
    | WganMnistSource
    | GansynthNotes
    | GansynthNsynth
)
# Training examples that samples are compared with while it trains; in the end it is all of them.
_GLANCED = 10_000
# Flags that say nothing on another machine.
_LOCAL = ("--prepared-dir", "--out", "--coordinator", "--processes", "--process")
# What decides nothing of the result.
_PLACES = (
    *("data_dir", "prepared_dir", "out", "judge", "samples", "storage", "watch", "tensorboard"),
    *("coordinator", "processes", "process"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    try:
        recipe = command_line(Recipe, arguments, __doc__)
        hosts.start(recipe.coordinator, recipe.processes, recipe.process)
        enable_compilation_cache()
        with hosts.end_together():
            typed = sys.argv[1:] if arguments is None else arguments
            run(recipe, command=cards.command("experiments/train_gan.py", typed, _LOCAL))
    except hosts.Stopped as stopped:
        print(stopped, file=sys.stderr)
        return hosts.STOPPED_STATUS
    except (ValueError, OSError, ImportError, TrainingError, CheckpointError, hosts.HostsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(recipe: GanRecipe, *, command: str, progress: bool = True) -> dict[str, Any]:
    """Trains what a recipe says and measures its samples.

    Args:
      recipe: what and how.
      command: what to type to get the same; for the model cards.
      progress: whether progress is drawn on stderr.

    Returns:
      What figures.json holds; {} without a judge, and where another process leads.
    """
    # --- what is there before training --------------------------------------------------------------------------------
    check_devices(recipe.training)
    with hosts.leader_first():
        experiment = recipe.experiment()
    judge = Judge.load(recipe.judge, experiment.task.domain) if recipe.judge else None
    known = held_out = {}
    if judge is not None:
        if isinstance(experiment, GansynthExperiment):
            require("parselmouth", "voice")
        known = real(experiment, _GLANCED, known=True) if recipe.watch else {}
        held_out = real(experiment, recipe.samples)
    if hosts.leads():
        print(experiment.title)

    # --- train --------------------------------------------------------------------------------------------------------
    watchers: list[Watcher] = [SampleWatcher(recipe.out)] if _can_draw() else []
    if recipe.watch and judge is not None:
        watchers.append(judge.watcher(known))
    same = {name: value for name, value in vars(recipe).items() if name not in ("training", *_PLACES)}
    trained = recipe.train(
        experiment,
        folder=recipe.out,
        recipe=same,
        progress=progress,
        watchers=watchers,
        tensorboard=recipe.tensorboard,
    )
    if not hosts.leads():
        return {}

    # --- measure ------------------------------------------------------------------------------------------------------
    networks = {"generator": trained.generator, "discriminator": trained.discriminator}
    dtype = recipe.storage if recipe.storage != "float32" else None
    found: dict[str, Any] = {}
    if judge is not None:
        stored = nd.load(networks["generator"].save(recipe.out / "generator", overwrite=True, dtype=dtype))
        found = measured(experiment, stored, judge, recipe.samples, held_out)
        (recipe.out / "figures.json").write_text(json.dumps({"command": command, **found}, indent=1) + "\n")
        print(table(found))

    # --- save ---------------------------------------------------------------------------------------------------------
    card = dict(experiment.card) | {
        "command": command,
        "time": f"{max(1, round(trained.seconds / 60))} min",
        "hardware": cards.hardware(),
        "training": {"steps": trained.step, **_plain(recipe.training)},
        "samples": found,
        "table": table(found) if found else "",
    }
    sheet = recipe.out / "samples" / "sheets" / f"{trained.step:08d}.png"
    _save(networks, card, recipe.out, dtype, sheet)
    if sheet.is_file():
        curves(trained.log, recipe.out / "curves.png", title=str(card["name"]))
    return found


def _can_draw() -> bool:
    try:
        require("PIL.Image", "report")
        require("matplotlib", "report")
    except MissingExtraError as error:
        print(f"no samples while it trains: {error}", file=sys.stderr)
        return False
    return True


def _save(
    networks: Mapping[str, nd.Network], card: Mapping[str, Any], out: pathlib.Path, dtype: Any, sheet: pathlib.Path
) -> None:
    """Both networks with their cards; the last sheet of samples goes with the generator."""
    for role, network in networks.items():
        own = dict(card)
        if role == "discriminator":
            own["name"] += "_discriminator"
            own["task"] = "Tells real examples from those of its generator, which " + _lower(str(card["task"]))
        dataclasses.replace(network, card=own).save(out / role, overwrite=True, dtype=dtype)
        if role == "generator" and sheet.is_file():
            (out / role / cards.SHEET).write_bytes(sheet.read_bytes())
        cards.write_card(own, out / role)
        print(f"  {out / role}")


# --- words and numbers ------------------------------------------------------------------------------------------------


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _plain(settings: gan.Settings) -> dict[str, Any]:
    """The settings that are not their defaults."""
    usual = gan.Settings()
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name != "steps" and getattr(settings, field.name) != getattr(usual, field.name)
    }


if __name__ == "__main__":
    raise SystemExit(main())
