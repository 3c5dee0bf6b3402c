"""Training: the data-parallel step, losses, the host loop of a classifier, resumable checkpoints."""

from nd_jax.training.checkpoints import CheckpointError, Checkpoints
from nd_jax.training.classifier import Settings, Task, predictor, train
from nd_jax.training.run import Trained, TrainingError

__all__ = ["CheckpointError", "Checkpoints", "Settings", "Task", "Trained", "TrainingError", "predictor", "train"]
