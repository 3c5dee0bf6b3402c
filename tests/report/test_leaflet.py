"""A page of one experiment: complete, safe, and honest about silence and loudness."""

import base64
import io
import wave

import numpy as np
import PIL.Image as Pillow

from nd_jax.domain import Image, Waveform
from nd_jax.report.leaflet import Leaflet


def test_a_page_with_everything(tmp_path):
    sheet = Leaflet(tmp_path / "page", "Some <b>title</b>", "About & around.")
    sheet.heading("Part")
    sheet.table(["what", "much"], [["a<", 1], ["b", 2.5]])
    pixels = np.zeros((4, 6, 3), np.uint8)
    sheet.figure("figure.png", pixels, 'words with "quotes"', "below")
    sheet.animation("moving.gif", [pixels, pixels + 9], "it moves")
    sheet.tiles("image", np.zeros((2, 5, 7, 1), np.float32), Image((5, 7, 1)), titles=["one", "two"], facts=[["x"], []])
    index = sheet.finish()
    page = index.read_text()
    assert "<b>title" not in page and "&lt;b&gt;title" in page and "a&lt;" in page
    assert "words with &quot;quotes&quot;" in page and "<audio" not in page
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page
    with Pillow.open(tmp_path / "page/files/moving.gif") as gif:
        assert gif.n_frames == 2
    with Pillow.open(tmp_path / "page/files/image-001.png") as picture:
        assert picture.size == (7, 5)
    for name in [part.split('"')[0] for part in page.split('src="')[1:]]:
        assert (tmp_path / "page" / name).is_file(), name


def test_columns_of_words_stand_left_and_of_numbers_right(tmp_path):
    sheet = Leaflet(tmp_path, "Table")
    sheet.table(["layer", "units", "labels"], [["a", "24", "loud 3"], ["b", "–", "–"], ["c", "1 of 2", "dark 2"]])
    page = sheet.finish().read_text()
    assert '<th scope="col">units</th><th scope="col" class="prose">labels</th>' in page
    assert '<td class="prose">a</td><td>24</td><td class="prose">loud 3</td>' in page
    assert '<td>–</td><td class="prose">–</td>' in page


def test_sounds_have_a_level_and_silence_is_called_so(tmp_path):
    domain = Waveform(8000, 8000)
    tone = np.sin(np.arange(8000) * 0.3)[:, None]
    sheet = Leaflet(tmp_path, "Sounds")
    sheet.tiles("sound", np.stack([0.01 * tone, 0.3 * tone, 0 * tone]).astype(np.float32), domain)
    page = sheet.finish().read_text()
    assert page.count("<audio") == 2 and page.count('<span class="soft">silent') == 1 and "LUFS" in page
    peaks = []
    for index in range(2):
        with wave.open(io.BytesIO((tmp_path / f"files/sound-{index:03d}.wav").read_bytes())) as file:
            peaks.append(np.abs(np.frombuffer(file.readframes(8000), "<i2")).max())
    assert abs(np.log2(peaks[0] / peaks[1])) < 0.1, "both are equally loud"
    assert not (tmp_path / "files/sound-002.wav").exists()
    assert "gain +" in page


def test_one_file_holds_its_pictures_and_sounds(tmp_path):
    tone = (0.1 * np.sin(np.arange(8000) * 0.3)[None, :, None]).astype(np.float32)
    sheet = Leaflet(tmp_path, "Alone", one_file=True)
    sheet.figure("figure.png", np.zeros((4, 6, 3), np.uint8), "words")
    sheet.animation("moving.gif", [np.zeros((4, 6, 3), np.uint8), np.ones((4, 6, 3), np.uint8)], "it moves")
    sheet.tiles("sound", tone, Waveform(8000, 8000))
    sheet.tiles("drawn", tone, Waveform(8000, 8000), figures=["<svg xmlns='http://www.w3.org/2000/svg'/>"])
    page = sheet.finish().read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    sources = [part.split('"')[0] for part in page.split(' src="')[1:]]
    kinds = [source.split(";")[0].removeprefix("data:") for source in sources]
    assert kinds == ["image/png", "image/gif", "image/png", "audio/wav", "image/svg+xml", "audio/wav"]
    with wave.open(io.BytesIO(base64.b64decode(sources[3].split(",")[1]))) as file:
        assert file.getnframes() == 8000
    assert "media-src 'self' file: data:" in page
