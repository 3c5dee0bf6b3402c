"""The files of an atlas page: the HTML shell around its data, and the one way a page reaches the disk, all at once."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
import re
import secrets
import shutil
import string
from collections.abc import Iterable
from typing import Any

from nd_jax.report.pictures import colour_table

MARKER = "made-by-nd_jax"
# Panels of a unit's or a layer's page that stand in files of their own.
PARTS = ("trust", "weights", "training", "tuning", "labels", "explain")
# And that which pages of generators have beside these.
OF_GENERATORS = ("latent",)
_KEPT = "kept.json"
_CONTENT = re.compile(r"atlas-[0-9a-f]{8}")
_DRAFT = re.compile(r"\.index-[0-9a-f]{8}\.html")


def to_json(value: Any) -> str:
    """JSON that can stand inside a `<script>` element: `<`, `>` and `&` escaped, numbers not finite null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    return value


def asset(name: str) -> str:
    """The text of a file of `nd_jax/report/assets`."""
    return importlib.resources.files("nd_jax.report").joinpath("assets", name).read_text(encoding="utf-8")


def fingerprint(*parts: Any) -> str:
    """A name for some content (arrays, text), and for the code that makes pictures and sounds of it."""
    digest = hashlib.blake2b(_code(), digest_size=16)
    for part in parts:
        content = part.tobytes() if hasattr(part, "tobytes") else str(part).encode()
        digest.update(b"%d " % len(content))
        digest.update(content)
    return digest.hexdigest()


@functools.cache
def _code() -> bytes:
    digest = hashlib.blake2b()
    for package in ("nd_jax.audio", "nd_jax.domain", "nd_jax.report"):
        for file in sorted(importlib.resources.files(package).iterdir(), key=lambda file: file.name):
            if file.name.endswith(".py"):
                digest.update(file.read_bytes())
    return digest.digest()


class Page:
    """Collects the files of one page beside the final place and moves them in at the end.

    The folder form is `index.html` and one content folder with a name of its own; the page is replaced by a single
    rename, and content of earlier pages is removed only after that. A killed run leaves the old page as it was. Files
    whose content did not change since the last page (`recall`) move on instead of being made anew. The single-file form
    carries the same files as base64 text inside the page.

    Args:
      folder: where the page goes; made if missing. Other files in it are left alone.
      single_file: one `index.html` and nothing else.

    Raises:
      ValueError: the folder is a file.
    """

    def __init__(self, folder: Any, *, single_file: bool = False):
        self.folder = pathlib.Path(folder).expanduser()
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but an atlas is written into a folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.single_file = single_file
        self.base = "" if single_file else f"atlas-{secrets.token_hex(4)}"
        self._inside: list[str] = []
        self._made: set[pathlib.Path] = set()
        self._kept: dict[str, dict[str, Any]] = {}
        self._old = _earlier(self.folder)
        if not single_file:
            self._write(MARKER, b"")

    def add(self, path: str, content: bytes) -> int:
        """Adds a picture, sound or array file; returns its size in bytes."""
        if self.single_file:
            text = base64.b64encode(content).decode("ascii")
            self._inside.append(f'<script type="text/plain" id="file:{html.escape(path)}">{text}</script>\n')
        else:
            self._write(path, content)
        return len(content)

    def remember(self, name: str, stem: str, endings: Iterable[str], about: Any) -> None:
        """Notes that the files `stem` + endings, and what is known about them, are all that `name` stands for."""
        self._kept[name] = {"stem": stem, "endings": list(endings), "about": about}

    def recall(self, name: str, stem: str) -> Any:
        """What is known about files that an earlier page made for `name`, now files of this one; None without them."""
        if name not in self._old:
            return None
        folder, record = self._old[name]
        try:
            sources = {stem + ending: folder / (record["stem"] + ending) for ending in record["endings"]}
            if self.single_file:
                for path, content in [(path, source.read_bytes()) for path, source in sources.items()]:
                    self.add(path, content)
            else:
                for path, source in sources.items():
                    _link(source, self._target(path))
        except OSError:
            return None
        self.remember(name, stem, record["endings"], record["about"])
        return record["about"]

    def add_data(self, slug: str, value: Any) -> None:
        """Adds the details of a layer, which the page reads when they are first needed."""
        text = to_json(value)
        if self.single_file:
            self._inside.append(f'<script type="application/json" id="data:{html.escape(slug)}">{text}</script>\n')
        else:
            self._write(f"{slug}.js", f"ND({json.dumps(slug)},{text});\n".encode())

    def finish(
        self, index: dict[str, Any], *, title: str, parts: Iterable[str] = PARTS, main: str = "atlas"
    ) -> pathlib.Path:
        """Writes the page itself, puts it in place and removes earlier content; returns the path of index.html.

        Args:
          index: what the script reads first.
          title: of the page.
          parts: assets with panels of their own, a script and a style each.
          main: the script that draws the page.
        """
        filled = document(
            {**index, "base": self.base, "single": self.single_file},
            title=title,
            scripts=("common.js", *(f"{name}.js" for name in parts), f"{main}.js"),
            styles=("atlas.css", *(f"{name}.css" for name in parts)),
            files="".join(self._inside),
        )
        if not self.single_file:
            self._write(_KEPT, json.dumps(self._kept).encode())
        target = self.folder / "index.html"
        temporary = self.folder / f".index-{secrets.token_hex(4)}.html"
        try:
            temporary.write_text(filled, encoding="utf-8")
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._remove_old()
        return target

    def discard(self) -> None:
        """Removes what was written so far; the page that was there before stays."""
        if self.base:
            shutil.rmtree(self.folder / self.base, ignore_errors=True)

    def _write(self, path: str, content: bytes) -> None:
        self._target(path).write_bytes(content)

    def _target(self, path: str) -> pathlib.Path:
        target = self.folder / self.base / path
        if target.parent not in self._made:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._made.add(target.parent)
        return target

    def _remove_old(self) -> None:
        for old in self.folder.iterdir():
            if old.name != self.base and _CONTENT.fullmatch(old.name) and (old / MARKER).is_file():
                shutil.rmtree(old, ignore_errors=True)
            elif _DRAFT.fullmatch(old.name):
                old.unlink(missing_ok=True)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every file system has links.
        shutil.copyfile(source, target)


def _earlier(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, dict[str, Any]]]:
    """The files that earlier pages in a folder made, by the content they stand for."""
    found: dict[str, tuple[pathlib.Path, dict[str, Any]]] = {}
    for content in folder.iterdir():
        if _CONTENT.fullmatch(content.name) and (content / MARKER).is_file():
            try:
                kept = json.loads((content / _KEPT).read_text(encoding="utf-8"))
                found.update({name: (content, record) for name, record in kept.items()})
            except (OSError, ValueError, AttributeError):
                continue
    return found


def document(
    index: dict[str, Any], *, title: str, scripts: Iterable[str], styles: Iterable[str], files: str = ""
) -> str:
    """The HTML of a page: the shell, its style and script, and the data that the script draws.

    Args:
      index: what the script reads first; with "single" true the page has everything inside and asks for no file.
      title: of the page.
      scripts: names of assets; one after the other they are one program.
      styles: names of assets.
      files: markup of the files inside a single-file page.
    """
    from nd_jax import __version__

    script = '"use strict";\n(() => {\n' + "".join(map(asset, scripts)) + "})();\n"
    style = "".join(map(asset, styles))
    source = "" if index["single"] else "'self' file:"
    policy = (
        f"default-src 'none'; script-src {_hash(script)} {source}; style-src {_hash(style)}; "
        f"img-src data: {source}; media-src data: {source}; base-uri 'none'; form-action 'none'"
    )
    return string.Template(asset("atlas.html")).substitute(
        policy=policy,
        version=__version__,
        title=html.escape(title),
        style=style,
        script=script,
        index=to_json(index),
        files=files,
        **_light_filter(),
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"


def _light_filter() -> dict[str, str]:
    """The tables that turn the magma of the PNG files into the light map in the browser.

    Red plus green rises along magma from end to end, so it says where in the map a colour is; the tables give the light
    colour of that place. One file serves both themes.
    """
    import numpy as np

    dark, light = colour_table("dark").astype(np.float64), colour_table("light").astype(np.float64)
    where = (dark[:, 0] + dark[:, 1]) / 2 / 255
    place = np.interp(np.linspace(0, 1, 256), np.maximum.accumulate(where), np.arange(256))
    return {
        name: " ".join(
            f"{value:.3f}".lstrip("0") or "0" for value in np.interp(place, np.arange(256), light[:, channel]) / 255
        )
        for channel, name in enumerate(("red", "green", "blue"))
    }


def ramp(theme: Any) -> str:
    """A colour map as the stops of a CSS gradient."""
    table = colour_table(theme)
    return ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in table[:: 255 // 15])
