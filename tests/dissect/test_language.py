"""Language models: a real HTTP server that also misbehaves, replies on disk, prompts and answers of ICL."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time

import numpy as np
import pytest

from nd_jax.dissect.language import (
    LanguageModel,
    LanguageModelError,
    icl_labels,
    icl_prompt,
    mapped,
    parse_answer,
)
from nd_jax.runtime import MissingExtraError

NAMES = ("dog", "sea_waves", "siren")


class Letters:
    """Counts letters: an encoder that needs nothing."""

    def encode(self, texts):
        return np.array([[text.count(chr(97 + letter)) for letter in range(26)] for text in texts])


def completion(text):
    message = {"role": "assistant", "content": text}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices}


class Server:
    """Answers with what is in `script`, one after the other: (status, body), seconds to wait, or raw bytes."""

    def __init__(self):
        self.script, self.requests = [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, body))
                step = outer.script.pop(0)
                if step == "hang up":
                    self.close_connection = True
                    return
                if isinstance(step, float):
                    time.sleep(step)
                    step = completion("too late")
                status, content = step
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client is gone

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/v1"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture(scope="module")
def started():
    pytest.importorskip("openai", reason="openai is not installed: pip install 'nd_jax[language]'")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(started):
    started.script, started.requests = [], []
    return started


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def model(server, tmp_path, pauses):
    return LanguageModel("m", tmp_path, server.url, tries=3, sleep=pauses.append, parameters={"temperature": 0.5})


def test_a_prompt_is_asked_once_ever(server, model, tmp_path):
    server.script = [completion("a dög"), completion("another")]
    assert model.ask("what?") == "a dög" == model.ask("what?")
    ((path, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert body == {"model": "m", "temperature": 0.5, "messages": [{"role": "user", "content": "what?"}]}
    (file,) = tmp_path.rglob("*.json")
    assert file == model.kept("what?") and json.loads(file.read_text(encoding="utf-8"))["reply"] == "a dög"
    # Elsewhere the same model says the same; with other parameters it is another question.
    assert (
        LanguageModel("m", tmp_path, "http://127.0.0.1:9/v1", parameters={"temperature": 0.5}).ask("what?") == "a dög"
    )
    other = LanguageModel("m", tmp_path, server.url, parameters={"temperature": 0.6})
    assert other.ask("what?") == "another" and len(list(tmp_path.rglob("*"))) == 2 + 2


@pytest.mark.parametrize("broken", ["", "{", "[]", '{"prompt": "what?"}', '{"prompt": "else", "reply": "x"}'])
def test_a_damaged_file_is_asked_again(server, model, broken):
    model.kept("what?").parent.mkdir()
    model.kept("what?").write_text(broken)
    server.script = [completion("right")]
    assert model.ask("what?") == "right" == model.ask("what?") and len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [
        (500, {"error": {"message": "down"}}),
        (503, b"<html>busy</html>"),
        (429, {"error": {"message": "slower"}}),
        (200, b"not json at all"),
        (200, b"\xff\xfe\x00garb"),
        (200, b"[" * 200_000),
        (200, b'{"choices": [{"message": {"content": "dog \\ud800"}}]}'),
        (200, {"choices": []}),
        (200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]}),
        (200, {"choices": [{"index": 0}]}),
        (200, {"hello": 1}),
        (200, [1, 2]),
        completion("  \n"),
        "hang up",
    ],
    ids=lambda failure: str(failure)[:60],
)
def test_a_server_that_misbehaves_is_asked_again(server, model, pauses, failure):
    server.script = [failure, failure, completion("at last")]
    assert model.ask("what?") == "at last" and len(server.requests) == 3
    assert len(pauses) == 2 and 1 <= pauses[0] <= 1.25 and 2 <= pauses[1] <= 2.5
    server.script = [failure] * 3
    with pytest.raises(LanguageModelError, match=r"'m' at http://127\S+ gave no answer in 3 tries; the last: \S"):
        model.ask("else?")
    # A failure is not kept.
    assert not model.kept("else?").exists() and not list(model.kept("what?").parent.rglob("*.draft"))


def test_timeouts(server, tmp_path, pauses):
    model = LanguageModel("m", tmp_path, server.url, tries=2, timeout=0.2, sleep=pauses.append)
    server.script = [0.6, completion("in time")]
    assert model.ask("what?") == "in time" and len(pauses) == 1
    closed = LanguageModel("m", tmp_path, "http://127.0.0.1:9/v1", tries=2, sleep=pauses.append)
    with pytest.raises(LanguageModelError, match="gave no answer in 2 tries; the last: Connection error"):
        closed.ask("else?")


def test_what_another_try_does_not_mend_fails_at_once(server, model, pauses):
    server.script = [(401, {"error": {"message": "no key"}})]
    with pytest.raises(LanguageModelError, match="in 1 try; the last: status 401: .*no key"):
        model.ask("what?")
    assert not pauses


def test_labels(server, model):
    server.script = [completion('Answer: "sirens"'), (500, {}), completion("Answer: Dogs, the sea waves, dog")]
    ticks = []
    summaries = ["it howls", "it barks"]
    found = icl_labels(model, summaries, NAMES, Letters(), progress=lambda *tick: ticks.append(tick))
    assert found == [("siren",), ("dog",)] and ticks == [(1, 2), (2, 2)]
    asked = [body["messages"][0]["content"] for _, body in server.requests]
    assert asked == [icl_prompt(NAMES, each) for each in (summaries[0], summaries[1], summaries[1])]


def test_the_prompt():
    text = icl_prompt(NAMES, "They\nhowl.")
    assert "Concepts: dog, sea_waves, siren\n" in text and text.endswith("Description: They howl.\nAnswer:")
    assert text.count("\nAnswer: ") == 2 and '"cat"' in text and '"snoring"' in text
    assert "the 3 concepts" in icl_prompt(NAMES, "They howl.", answers=3)
    with pytest.raises(ValueError, match="answers must be 1 to 3"):
        icl_prompt(NAMES, "They howl.", answers=4)
    with pytest.raises(ValueError, match="summary of the clips is empty"):
        icl_prompt(NAMES, " \n")


@pytest.mark.parametrize(
    ("reply", "candidates"),
    [
        ('Sure! Answer: "sea_waves"', ("sea_waves",)),
        ("**Answer:** siren.", ("siren",)),
        ("Answer: dog, sea waves\n3. siren", ("dog", "sea waves", "siren")),
        ('Not "this". Answer: "dog", "siren"', ("dog", "siren")),
        ("Answer: no.\nanswer: yes", ("yes",)),
        ("I would say \"dog\" or “siren”, and it's not Bob's", ("dog", "siren")),
        ("I choose\n#1 dog\n# siren", ("dog", "siren")),
        ("some dog,\n perhaps", ("some dog, perhaps",)),
        ("Answer:", ("Answer:",)),
        (" ", ()),
    ],
)
def test_answers(reply, candidates):
    assert parse_answer(reply) == candidates


def test_candidates_become_concepts():
    assert mapped(["dogs", "see wave", "dog"], NAMES, Letters()) == ("dog", "sea_waves")
    assert mapped([], NAMES, Letters()) == ()

    class Short:
        def encode(self, texts):
            return np.ones((1, 2))

    with pytest.raises(ValueError, match=r"the encoder gave \(1, 2\) for 4 texts"):
        mapped(["dog"], NAMES, Short())


def test_settings_and_the_missing_package(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="an http address, got 'm' and 'localhost'"):
        LanguageModel("m", tmp_path, "localhost")
    with pytest.raises(ValueError, match="tries must be 1 or more"):
        LanguageModel("m", tmp_path, "http://localhost/v1", tries=0)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"nd_jax\[language\]"):
        LanguageModel("m", tmp_path, "http://localhost/v1").ask("what?")
