"""A language model behind an OpenAI-compatible endpoint, and ICL: labels by in-context learning (AND, module A).

Every prompt and its reply are kept on disk, so that the same question is asked once, ever, and a run can be repeated
without the model. Failures of the endpoint are tried again, with longer and longer pauses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nd_jax.dissect.closed_set import TextEncoder, concept_names
from nd_jax.runtime import progress_bar, require

_LONGEST_PAUSE = 60.0
# Request timeout, conflict, too many requests; and everything from 500 on.
_AGAIN = (408, 409, 429)
# What the client lets through of a body that is no JSON, no text at all, or nested without end.
_NO_JSON = (json.JSONDecodeError, UnicodeDecodeError, RecursionError)


class LanguageModelError(RuntimeError):
    """The endpoint gave no usable answer; the message says what it gave."""


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A chat model behind an endpoint of OpenAI's kind (vLLM, llama.cpp, Ollama, a company's).

    Attributes:
      model: its name at the endpoint.
      folder: where prompts and replies are kept, one JSON file each.
      base_url: of the endpoint, for example "http://localhost:8000/v1".
      api_key: None for that of the environment (OPENAI_API_KEY); local endpoints ask for none.
      parameters: of a request, such as temperature, top_p, max_tokens or seed; part of what a reply is kept under.
      timeout: seconds for one try.
      tries: how often a request is made before it counts as failed.
      pause: seconds before the second try, doubled for each one after, up to a minute; a quarter more by chance.
      sleep: what pauses; for tests.
    """

    model: str
    folder: str | os.PathLike[str]
    base_url: str
    api_key: str | None = None
    parameters: Mapping[str, Any] = dataclasses.field(
        default_factory=lambda: {"temperature": 1.0, "top_p": 1.0, "max_tokens": 512}
    )
    timeout: float = 120.0
    tries: int = 5
    pause: float = 1.0
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """Refuses settings that cannot work."""
        if not self.model or not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"give the name of a model and an http address, got {self.model!r} and {self.base_url!r}")
        if self.tries < 1 or self.timeout <= 0 or self.pause < 0:
            raise ValueError(
                f"tries must be 1 or more, timeout above 0 and pause 0 or more, got {self.tries}, {self.timeout} and "
                f"{self.pause}"
            )

    def ask(self, prompt: str) -> str:
        """The reply to one prompt, from disk if it was asked before.

        Raises:
          LanguageModelError: the last of `tries` failures, or one that another try would not mend.
          nd_jax.runtime.MissingExtraError: the package openai is not installed, and the reply is not on disk.
        """
        path = self.kept(prompt)
        known = _read(path, prompt)
        if known is not None:
            return known
        reply = self._asked(prompt)
        entry = {"model": self.model, "parameters": dict(self.parameters), "prompt": prompt, "reply": reply}
        _write(path, json.dumps(entry, ensure_ascii=False, indent=1))
        return reply

    def ask_all(self, prompts: Sequence[str], *, progress: bool | Callable[[int, int], None] = False) -> list[str]:
        """The replies to many prompts; what was answered before a failure is on disk and is not asked again."""
        replies = []
        with progress_bar(len(prompts), "prompt", progress) as tick:
            for prompt in prompts:
                replies.append(self.ask(prompt))
                tick(1)
        return replies

    def kept(self, prompt: str) -> pathlib.Path:
        """The file of a prompt: named by the SHA-256 of model, parameters and prompt; the address does not count."""
        question = {"model": self.model, "parameters": dict(self.parameters), "prompt": prompt}
        digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
        return pathlib.Path(self.folder).expanduser() / digest[:2] / f"{digest}.json"

    def _asked(self, prompt: str) -> str:
        openai = require("openai", "language")
        key = self.api_key or os.environ.get("OPENAI_API_KEY") or "none"
        chance = random.Random(prompt)
        with openai.OpenAI(base_url=self.base_url, api_key=key, timeout=self.timeout, max_retries=0) as client:
            for attempt in range(1, self.tries + 1):
                try:
                    answer = client.chat.completions.create(
                        model=self.model, messages=[{"role": "user", "content": prompt}], **self.parameters
                    )
                    return _reply(answer)
                except openai.APIStatusError as error:
                    failure = f"status {error.status_code}: {_first_line(error)}"
                    mends = error.status_code in _AGAIN or error.status_code >= 500
                except (openai.APIError, LanguageModelError, *_NO_JSON) as error:
                    failure, mends = _first_line(error), True
                if not mends or attempt == self.tries:
                    raise LanguageModelError(
                        f"{self.model!r} at {self.base_url} gave no answer in {attempt} "
                        f"{'try' if attempt == 1 else 'tries'}; the last: {failure}"
                    )
                self.sleep(min(self.pause * 2 ** (attempt - 1), _LONGEST_PAUSE) * (1 + chance.random() / 4))
        raise AssertionError("unreachable")


def _reply(answer: Any) -> str:
    """The text of an answer.

    Raises:
      LanguageModelError: it has none: no choices, an empty one, half of a character, or something that is no chat
        completion at all.
    """
    choices = getattr(answer, "choices", None)
    if not isinstance(choices, list):
        raise LanguageModelError(f"the answer is no chat completion but {str(answer)[:80]!r}")
    if not choices:
        raise LanguageModelError("the answer has no choices")
    text = getattr(getattr(choices[0], "message", None), "content", None)
    if not isinstance(text, str) or not text.strip():
        raise LanguageModelError("the answer is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise LanguageModelError(f"the answer has half of a character, \\u{ord(half):04x}, which is no text") from None
    return text


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text[:200] or type(error).__name__


def _read(path: pathlib.Path, prompt: str) -> str | None:
    """A reply on disk; None without one, or when its file is not of this prompt (it is then asked again)."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    right = isinstance(entry, dict) and entry.get("prompt") == prompt and isinstance(entry.get("reply"), str)
    return entry["reply"] if right else None


def _write(path: pathlib.Path, text: str) -> None:
    """Writes a file that is there as a whole or not at all, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.replace(draft, path)
    except BaseException:
        pathlib.Path(draft).unlink(missing_ok=True)
        raise


# Worked examples of AND's two concepts, in our own words.
_EXAMPLES = (
    (
        "The clips share short, high, voiced calls of a small animal, some drawn out and pleading, some soft and "
        "rolling.",
        "cat",
    ),
    (
        "All clips hold a low, rough, rattling sound that swells and fades with slow, regular breathing, as of someone "
        "asleep.",
        "snoring",
    ),
)


def icl_prompt(concepts: Sequence[str], summary: str, *, answers: int = 1) -> str:
    """The prompt of ICL: the list of concepts, two worked examples, the summary of what a unit is most active on.

    Args:
      concepts: names.
      summary: what the clips with the highest activations have in common.
      answers: how many concepts are asked for, best first.

    Raises:
      ValueError: concepts as `concept_names`, an empty summary, or more answers than concepts.
    """
    names = concept_names(concepts)
    if not summary.strip():
        raise ValueError("the summary of the clips is empty")
    if not 1 <= answers <= len(names):
        raise ValueError(f"answers must be 1 to {len(names)}, the number of concepts, got {answers}")
    wanted = "the one concept" if answers == 1 else f"the {answers} concepts"
    form = '"concept"' if answers == 1 else ", ".join(f'"concept {place + 1}"' for place in range(answers))
    examples = "\n\n".join(f'Description: {text}\nAnswer: "{name}"' for text, name in _EXAMPLES)
    return (
        "A description tells what some audio clips have in common. From the list of concepts, choose "
        f"{wanted} that the description fits best{', best first' if answers > 1 else ''}. Use the names exactly as "
        f"they are listed, and answer in the form: Answer: {form}\n\n"
        "Two examples, with one concept each, which need not be in your list:\n\n"
        f"{examples}\n\n"
        f"Concepts: {', '.join(names)}\n\n"
        f"Description: {' '.join(summary.split())}\nAnswer:"
    )


def parse_answer(reply: str) -> tuple[str, ...]:
    """The candidates in a reply, in their order.

    What stands after the last "Answer:", else quoted words, else what stands after "#", else the whole reply. After
    "Answer:" quoted words count alone if there are any; otherwise lines, list items and commas part candidates.
    """
    text = reply.strip()
    parts = re.split(r"answers?\s*\**\s*:", text, flags=re.IGNORECASE)
    if len(parts) > 1 and parts[-1].strip():
        quoted = _quoted(parts[-1])
        return quoted or _listed(parts[-1])
    quoted = _quoted(text)
    if quoted:
        return quoted
    numbered = tuple(filter(None, (_bare(found) for found in re.findall(r"#\s*(?:\d+[.):]?\s+)?([^#\n]+)", text))))
    return numbered or ((" ".join(text.split()),) if text else ())


def _quoted(text: str) -> tuple[str, ...]:
    found = re.findall(r'"([^"\n]+)"|“([^”\n]+)”|(?<!\w)\'([^\'\n]+)\'(?!\w)|`([^`\n]+)`', text)
    return tuple(filter(None, (_bare(next(filter(None, each), "")) for each in found)))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (_bare(part) for part in re.split(r"[\n,;]", text))))


def _bare(text: str) -> str:
    return re.sub(r"^\s*(?:[-*•#]+|\(?\d+[.)])\s*", "", text).strip(" \t\"'`*.")


def mapped(candidates: Sequence[str], concepts: Sequence[str], encoder: TextEncoder) -> tuple[str, ...]:
    """The concept of each candidate: that with the highest cosine of the embeddings of "This is an audio about X".

    Each concept is named once; of equals the first in the list.

    Raises:
      ValueError: concepts as `concept_names`, or an encoder that gives rows that do not fit.
    """
    names = concept_names(concepts)
    if not candidates:
        return ()
    sentences = [f"This is an audio about {text.replace('_', ' ')}" for text in (*names, *candidates)]
    rows = np.asarray(encoder.encode(sentences), np.float64)
    if rows.ndim != 2 or len(rows) != len(sentences) or not np.isfinite(rows).all():
        raise ValueError(f"the encoder gave {rows.shape} for {len(sentences)} texts, or numbers that are not finite")
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    best = (rows[len(names) :] @ rows[: len(names)].T).argmax(axis=1)
    return tuple(dict.fromkeys(names[place] for place in best))


def icl_labels(
    model: LanguageModel, summaries: Sequence[str], concepts: Sequence[str], encoder: TextEncoder, *,
    answers: int = 1, progress: bool | Callable[[int, int], None] = False,
) -> list[tuple[str, ...]]:  # fmt: skip
    """ICL's labels of units: what a language model chooses for each one's summary, mapped to the concepts.

    Args:
      model: what is asked.
      summaries: one a unit.
      concepts: names.
      encoder: of texts, that maps what is answered.
      answers: how many concepts are asked for.
      progress: True for a bar over units, or a function of (done, total).

    Returns:
      The concepts of each unit, best first; at most `answers`, fewer when several answers are one concept.

    Raises:
      ValueError: as `icl_prompt` and `mapped`.
      LanguageModelError: as `LanguageModel.ask`.
    """
    prompts = [icl_prompt(concepts, summary, answers=answers) for summary in summaries]
    replies = model.ask_all(prompts, progress=progress)
    return [mapped(parse_answer(reply), concepts, encoder)[:answers] for reply in replies]
