"""Trains a classifier and writes it as a network that nd_jax opens up.

    python experiments/train_classifier.py instrument-notes --data-dir NOTES --out runs/instrument_notes
    python experiments/train_classifier.py spoken-digits --data-dir FSDD --out runs/spoken_digits
    python experiments/train_classifier.py esc10 --data-dir ESC --out runs/esc10
    python experiments/train_classifier.py esc10-ast --data-dir ESC --out runs/esc10_ast
    python experiments/train_classifier.py emotion --data-dir EMODB --out runs/emotion
    python experiments/train_classifier.py mnist --data-dir MNIST --out runs/mnist

OUT/network is the trained network (`nd.load` takes it) with its model card; beside it metrics.json, metrics.jsonl and
one confusion matrix a head. The same command again goes on where an interrupted run was. Recipes: experiments/configs.
With --training.history 8 the network of eight moments is kept in OUT/history, for a slider over training in the atlas:
`python experiments/visualize.py --network OUT/network --history OUT/history`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

import nd_jax as nd
from nd_jax.experiments.configs import Experiment
from nd_jax.experiments.configs.emotion import Emotion
from nd_jax.experiments.configs.esc10 import Esc10
from nd_jax.experiments.configs.esc10_ast import Esc10Ast
from nd_jax.experiments.configs.instrument_notes import InstrumentNotes
from nd_jax.experiments.configs.mnist import Mnist
from nd_jax.experiments.configs.spoken_digits import SpokenDigits
from nd_jax.runtime import command_line, enable_compilation_cache
from nd_jax.training import TrainingError, cards, measures, predictor, train
from nd_jax.training.classifier import as_heads

Recipe = InstrumentNotes | SpokenDigits | Esc10 | Esc10Ast | Emotion | Mnist
_LOCAL = ("--prepared-dir",)
_PLACES = ("data_dir", "prepared_dir", "out", "speakers", "folds")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    recipe = command_line(Recipe, arguments, __doc__)
    enable_compilation_cache()
    try:
        typed = sys.argv[1:] if arguments is None else arguments
        run(recipe, command=cards.command("experiments/train_classifier.py", typed, _LOCAL))
    except (ValueError, OSError, ImportError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(recipe: Recipe, *, command: str, progress: bool = True) -> list[dict[str, Any]]:
    """Trains and measures every experiment of a recipe.

    Args:
      recipe: what and how.
      command: what to type to get the same; for the model card.
      progress: whether progress is drawn on stderr.

    Returns:
      The measures of every experiment, as written to metrics.json.
    """
    found = []
    for experiment in recipe.experiments():
        folder = recipe.out / experiment.name
        print(experiment.title)
        found.append(_train_and_measure(experiment, recipe, folder, command, progress))
    if len(found) > 1:
        mean = {name: np.mean([one["accuracy"][name]["value"] for one in found]) for name in found[0]["accuracy"]}
        summary = {"command": command, "mean": mean, "each": found}
        (recipe.out / "metrics.json").write_text(json.dumps(summary, indent=1) + "\n")
        print("mean: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in mean.items()))
    return found


def _train_and_measure(
    experiment: Experiment, recipe: Recipe, folder: pathlib.Path, command: str, progress: bool
) -> dict[str, Any]:
    # --- train --------------------------------------------------------------------------------------------------------
    same = {name: value for name, value in vars(recipe).items() if name not in ("training", *_PLACES)}
    same |= experiment.settled
    network_of = functools.partial(_network, experiment)
    trained = train(
        experiment.module,
        experiment.task,
        recipe.training,
        folder=folder,
        recipe=same,
        progress=progress,
        keep=lambda step, variables: _keep(network_of(variables), folder / "history" / f"{step:08d}"),
    )
    minutes = max(1, round(trained.seconds / 60))

    # --- measure on what was held out ---------------------------------------------------------------------------------
    predict = predictor(experiment.module, experiment.task.present)
    outputs = experiment.per_recording(predict(trained.variables, experiment.held_out))
    accuracy = experiment.measure(outputs)
    for head, logits in as_heads(outputs, tuple(experiment.labels)).items():
        _write_confusion(experiment, head, np.argmax(logits, axis=-1), folder)
    for line in cards.accuracy_lines(accuracy):
        print(f"  {line}")

    # --- save ---------------------------------------------------------------------------------------------------------
    card = dict(experiment.card) | {
        "accuracy": accuracy,
        "command": command,
        "time": f"{minutes} min",
        "hardware": cards.hardware(),
        "training": {"best_step": trained.step, "steps": trained.steps_done, "validation_score": trained.score},
    }
    network = dataclasses.replace(network_of(trained.variables), card=card)
    network.save(folder / "network", overwrite=True)
    cards.write_card(card, folder / "network")
    result = {"name": experiment.name, "accuracy": accuracy, "minutes": minutes, **card["training"]}
    (folder / "metrics.json").write_text(json.dumps({"command": command, **result}, indent=1) + "\n")
    print(f"  {folder / 'network'}")
    return result


def _network(experiment: Experiment, variables: Any) -> nd.Network:
    one_head = len(experiment.labels) == 1
    return nd.Network(
        experiment.module,
        variables,
        input=experiment.domain,
        labels=next(iter(experiment.labels.values())) if one_head else dict(experiment.labels),
        apply_kwargs={"train": False},
    )


def _keep(network: nd.Network, place: pathlib.Path) -> None:
    """Writes the network of a step into history/, in place of what a killed run left there."""
    shutil.rmtree(place, ignore_errors=True)
    network.save(place, overwrite=True)


def _write_confusion(experiment: Experiment, head: str, predicted: np.ndarray, folder: pathlib.Path) -> None:
    """The confusion matrix of one head as npz, and as a picture when matplotlib is installed."""
    names = experiment.labels[head]
    matrix = measures.confusion_matrix(experiment.held_out[head][:: experiment.windows], predicted, len(names))
    np.savez(folder / f"confusion_{head}.npz", matrix=matrix, names=np.asarray(names))
    measures.draw_confusion(matrix, names, folder / f"confusion_{head}.png", title=f"{head}, held out")


if __name__ == "__main__":
    raise SystemExit(main())
