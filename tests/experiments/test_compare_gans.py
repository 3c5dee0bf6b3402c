"""Several runs in one picture."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.experiments import compare_gans
from nd_jax.networks.dcgan import Generator


def _run(folder, name, lines, **training):
    """A finished run as train_gan leaves it."""
    module, latent = Generator(latent=3, hidden=1), nd.domain.Latent(3)
    card = {"name": name, "training": training, "samples": {"settings": {"train": 100}}}
    variables = module.init(jax.random.key(0), np.zeros((1, 3), np.float32))
    picture = nd.domain.Image((28, 28, 1), -1.0, 1.0)
    nd.Network(module, variables, latent, picture, card=card).save(folder / "generator")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _line(step, **more):
    return {"step": step, "seconds": 30.0 * step, "real_score": 0.75, "fake_score": 0.25, **more}


_SEEN = {"confident": 0.5, "inception_score": 2.0, "rarest_class": 0.1, "kernel_distance": 0.25}


def test_runs_are_laid_over_the_examples_that_they_saw_or_the_time_they_took(tmp_path, capsys):
    first = _run(tmp_path / "a", "one", [_line(1), _line(2, **_SEEN), _line(4, **_SEEN)], batch_size=50)
    second = _run(tmp_path / "b", "other", [_line(2, **_SEEN)], batch_size=50, critic_steps=3)
    runs = ["--runs", str(first), str(second), "--out", str(tmp_path / "gans.png")]
    assert compare_gans.main(runs) == 0
    assert (tmp_path / "gans.png").stat().st_size > 10_000
    told = capsys.readouterr().out
    for line in ("| one | 1.00 | 0.5 | 2 | 0.1 | 0.25 | 0.5 |", "| one | 2.00 |", "| other | 3.00 |"):
        assert line in told
    assert compare_gans.main([*runs, "--by", "minutes"]) == 0
    assert "| other | 1.00 |" in capsys.readouterr().out


@pytest.mark.parametrize(("more", "said"), [([], "was not trained with --watch"), (["--by", "steps"], "by must be")])
def test_what_cannot_be_drawn_is_said_in_a_sentence(tmp_path, capsys, more, said):
    run = _run(tmp_path / "a", "one", [_line(1)])
    assert compare_gans.main(["--runs", str(run), "--out", str(tmp_path / "gans.png"), *more]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "gans.png").exists()
