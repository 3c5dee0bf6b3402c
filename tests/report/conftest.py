"""A small network with hostile names, its visualization, exemplars and a browser, for the tests of this folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time

import flax.linen as nn
import jax
import numpy as np
import pytest

import nd_jax as nd
from nd_jax.audio import LogMel as Transform
from nd_jax.domain import LogMel

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"
CLOSING = "</script><script>document.title='pwned'</script>"
REQUIRED = os.environ.get("ND_JAX_REQUIRE_BROWSER") == "1" or os.environ.get("CI") in ("1", "true")
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--autoplay-policy=no-user-gesture-required --mute-audio --window-size=1280,800"
)


class Small(nn.Module):
    """Two convolutions and a head."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(12, (3, 3), strides=(2, 2), name="one")(x))
        x = nn.relu(nn.Conv(4, (3, 3), strides=(2, 2), name="two")(x))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


@pytest.fixture(scope="session")
def domain():
    return LogMel(Transform(sample_rate=8000, n_fft=256, hop_length=128, n_mels=24, f_min=60.0), frames=32)


@pytest.fixture(scope="session")
def network(domain):
    module = Small()
    variables = module.init(jax.random.key(3), np.zeros((1, *domain.shape), np.float32))
    return nd.Network(
        module,
        variables,
        input=domain,
        labels=["bell", HOSTILE, CLOSING],
        card={
            "name": f"small {HOSTILE}",
            "task": "telling bells from noise",
            "data": CLOSING,
            "accuracy": {"top": 0.5},
        },
    )


@pytest.fixture(scope="session")
def waves(domain):
    """Twelve sounds: tones, noise, and silence at the end."""
    random = np.random.default_rng(1)
    time = np.arange(domain.samples) / domain.sample_rate
    tones = [0.3 * np.sin(2 * np.pi * pitch * time) for pitch in (150, 300, 440, 600, 900, 1200, 1800, 2400)]
    noises = [scale * random.normal(size=domain.samples) for scale in (0.05, 0.1, 0.2)]
    return np.stack([*tones, *noises, np.zeros(domain.samples)]).astype(np.float32)


@pytest.fixture(scope="session")
def result(network):
    """Twelve units of one layer, and three outputs."""
    made = [
        nd.visualize_batch(network, objective, key=jax.random.key(5), steps=6, snapshots=3, progress=False)
        for objective in (nd.objectives.channel("one"), nd.objectives.logit())
    ]
    return nd.visualize.concatenate(made)


@pytest.fixture(scope="session")
def exemplars(network, waves):
    names = [HOSTILE, CLOSING, *(f"sound {index}" for index in range(2, len(waves)))]
    return nd.dissect.exemplars(
        network, waves, layers=["one", "output"], names=names, sample_rate=8000, batch_size=5, progress=False
    )


def unavailable(reason):
    """A browser that must be there and is not is a failure; anywhere else the tests are skipped."""
    (pytest.fail if REQUIRED else pytest.skip)(f"no browser tests: {reason}")


def program(variable, names):
    found = os.environ.get(variable) or next(filter(None, map(shutil.which, names)), None)
    if not found:
        unavailable(f"{names[0]} is not installed (or set {variable}); apt-get install chromium chromium-driver")
    return found


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    try:
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException
        from selenium.webdriver.chrome.service import Service
    except ImportError:
        unavailable("selenium is not installed: pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = program("ND_JAX_CHROMIUM", ("chromium", "chromium-browser", "google-chrome"))
    service = program("ND_JAX_CHROMEDRIVER", ("chromedriver",))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    for attempt in range(3):
        try:
            browser = webdriver.Chrome(options=options, service=Service(service))
            break
        except WebDriverException as error:
            if attempt == 2:
                unavailable(f"Chromium does not start: {error.msg}")
            time.sleep(1)
    yield browser
    browser.quit()


class Atlas:
    """One opened page."""

    def __init__(self, driver, path):
        self.driver, self.path = driver, path

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, script, seconds=15.0):
        """Waits for a true value of an expression."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.run(f"return {script}")
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(
            f"never true: {script}; the page says {self.run('return document.body.innerText')[:800]!r}"
        )

    def open(self, where=""):
        self.driver.get("about:blank")
        self.driver.get(self.path.as_uri() + where)
        self.until("document.querySelector('main h1')")
        return self

    def key(self, *names):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*names).perform()

    def tiles(self):
        return self.run("return [...document.querySelectorAll('.tile .name b')].map(n => n.textContent)")

    def size(self, width, height):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )

    def prefer(self, theme):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@contextlib.contextmanager
def _opened(driver, path):
    """A page that must leave no error in the console and ask nothing of any network."""
    driver.get_log("browser")
    driver.get_log("performance")
    page = Atlas(driver, path)
    page.size(1280, 800)
    page.prefer("light")
    yield page
    assert driver.get_log("browser") == []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            request = message["params"]
            if request["documentURL"].startswith("file:"):
                assert request["request"]["url"].split(":")[0] in ("file", "data", "blob"), request["request"]["url"]


@pytest.fixture(scope="session")
def opened():
    """`opened(driver, path)`: a context with a page that must leave no error and ask nothing of any network."""
    return _opened


@pytest.fixture(scope="session")
def browsed():
    """`browsed(driver, path)`: a page of which nothing is expected."""
    return Atlas
