"""The procedural sound bank: the sounds are measured against what their labels say."""

from __future__ import annotations

import chex
import jax
import numpy as np
import pytest

from nd_jax.data import synthetic
from nd_jax.data.synthetic import CLASSES

RATE, SECONDS = 16000, 2.0
SAMPLES = round(RATE * SECONDS)
TIME = np.arange(SAMPLES) / RATE
PER_CLASS = 3


@pytest.fixture(scope="module")
def bank() -> synthetic.Bank:
    return synthetic.bank(jax.random.key(0), per_class=PER_CLASS, sample_rate=RATE, seconds=SECONDS)


def rows(bank, name: str) -> list[int]:
    return np.flatnonzero(bank.class_index == bank.class_names.index(name)).tolist()


def each(bank, *names: str):
    """(wave, parameters, events of that sound) of all sounds of some classes."""
    for name in names:
        for number, row in enumerate(rows(bank, name)):
            parameters = {key: float(values[number]) for key, values in bank.parameters[name].items()}
            yield bank.waves[row], parameters, jax.tree.map(lambda field, row=row: field[row], bank.events)


def power(wave, taper: bool = False):
    """Frequencies in Hz and power of a whole wave."""
    window = np.blackman(len(wave)) if taper else 1.0
    size = 4 * SAMPLES
    return np.fft.rfftfreq(size, 1 / RATE), np.abs(np.fft.rfft(wave * window, size)) ** 2


def strongest(wave) -> float:
    frequency, energy = power(wave, taper=True)
    return frequency[np.argmax(energy)]


def instantaneous(wave):
    """Frequency in Hz and envelope of a single moving tone, through the analytic signal."""
    from scipy.signal import hilbert

    analytic = hilbert(wave)
    return np.gradient(np.unwrap(np.angle(analytic))) * RATE / (2 * np.pi), np.abs(analytic)


def middle(events, margin: float = 0.1):
    """The samples well inside the first event."""
    onset, offset = events.onset[0], events.offset[0]
    width = offset - onset
    return (onset + margin * width <= TIME) & (offset - margin * width >= TIME)


def test_there_are_many_described_classes_with_units(bank):
    assert len(CLASSES) >= 32
    assert len({sound.description for sound in CLASSES.values()}) == len(CLASSES)
    assert bank.class_names == tuple(CLASSES)
    assert bank.descriptions[0] == CLASSES[bank.class_names[0]].description
    for name, sound in CLASSES.items():
        assert name == sound.name
        for sample_rate in (8000, 16000, 44100):
            for parameter, given in sound.ranges(sample_rate, SECONDS).items():
                assert given.unit and given.low <= given.high, (name, parameter)
                if given.unit == "Hz" and parameter != "rate":
                    assert given.high < sample_rate / 2, (name, parameter)


def test_shapes_levels_and_numbers(bank):
    count = len(CLASSES) * PER_CLASS
    chex.assert_shape(bank.waves, (count, SAMPLES))
    chex.assert_shape(list(bank.events.__dict__.values()), (count, synthetic.MAX_EVENTS))
    assert bank.waves.dtype == np.float32
    assert np.isfinite(bank.waves).all()
    peaks = np.abs(bank.waves).max(axis=1)
    assert peaks.max() <= 1.0
    for name in CLASSES:
        if name != "silence":
            assert peaks[rows(bank, name)].min() > 0.01, name
    for wave, parameters, _ in each(bank, "tone_low", "noise_pink", "bell", "clicks_fast"):
        chex.assert_trees_all_close(20 * np.log10(np.abs(wave).max()), parameters["level_db"], atol=1e-3)


def test_parameters_lie_in_their_ranges(bank):
    for name, sound in CLASSES.items():
        for parameter, given in sound.ranges(RATE, SECONDS).items():
            drawn = bank.parameters[name][parameter]
            assert (drawn >= given.low - 1e-5 * abs(given.low)).all(), (name, parameter)
            assert (drawn <= given.high + 1e-5 * abs(given.high)).all(), (name, parameter)


def test_silence_is_zero_and_has_no_event(bank):
    assert not bank.waves[rows(bank, "silence")].any()
    assert (bank.events.count[rows(bank, "silence")] == 0).all()
    assert (np.delete(bank.events.count, rows(bank, "silence")) >= 1).all()


def test_nothing_sounds_outside_the_events(bank):
    for row, wave in enumerate(bank.waves):
        events = jax.tree.map(lambda field, row=row: field[row], bank.events)
        inside = np.zeros(SAMPLES, bool)
        for onset, offset in zip(events.onset, events.offset, strict=True):
            inside |= (onset - 1e-6 <= TIME) & (offset + 1e-6 >= TIME)
        energy = np.sum(wave.astype(np.float64) ** 2)
        assert np.sum(wave[~inside].astype(np.float64) ** 2) <= 1e-4 * energy, bank.class_names[bank.class_index[row]]
        count = events.count
        assert np.isnan(events.onset[count:]).all() and (np.diff(events.onset[:count]) >= 0).all()
        assert (events.onset[:count] >= 0).all() and (events.offset[:count] <= SECONDS + 1e-5).all()


def test_nothing_clicks_at_the_ends(bank):
    for row, wave in enumerate(bank.waves):
        last = bank.events.count[row] - 1
        if last < 0:
            continue
        for edge in (bank.events.onset[row, 0], bank.events.offset[row, last]):
            near = np.abs(TIME - edge) < 2.5 / RATE
            # A Hann pulse of 20 samples has risen to 15 % after 2.5 of them.
            assert np.abs(wave[near]).max(initial=0) <= 0.2 * np.abs(wave).max(), bank.class_names[
                bank.class_index[row]
            ]


def test_the_stated_band_holds_the_energy(bank):
    for row, wave in enumerate(bank.waves):
        name = bank.class_names[bank.class_index[row]]
        if name == "silence":
            continue
        frequency, energy = power(wave)
        inside = np.zeros(len(frequency), bool)
        for low, high in zip(bank.events.low[row], bank.events.high[row], strict=True):
            assert np.isnan(low) or 0 <= low < high <= RATE / 2
            inside |= (low <= frequency) & (frequency <= high)
        assert energy[inside].sum() >= 0.95 * energy.sum(), (name, energy[inside].sum() / energy.sum())


def test_tones_have_the_frequency_they_say(bank):
    for wave, parameters, events in each(bank, "tone_low", "tone_middle", "tone_high", "am_slow", "beeps_slow"):
        assert abs(strongest(wave) - parameters["f0"]) < 1.0
        chex.assert_trees_all_close(events.pitch[0], np.float32(parameters["f0"]), rtol=1e-5)
        chex.assert_trees_all_close(events.midi[0], 69 + 12 * np.log2(parameters["f0"] / 440), atol=1e-3)


def test_the_ranges_of_the_tone_classes_do_not_meet():
    ranges = [CLASSES[name].ranges()["f0"] for name in ("tone_low", "tone_middle", "tone_high")]
    assert all(first.high <= second.low for first, second in zip(ranges, ranges[1:], strict=False))


@pytest.mark.parametrize("name", [name for name in CLASSES if name.startswith("chirp_")])
def test_chirps_start_and_end_where_they_say(bank, name):
    for wave, parameters, events in each(bank, name):
        low, high = parameters["f_low"], parameters["f_low"] * 2 ** parameters["octaves"]
        start, end = (low, high) if "up" in name else (high, low)
        way = (TIME - parameters["onset"]) / parameters["duration"]
        expected = start * (end / start) ** way if "exponential" in name else start + (end - start) * way
        inside = middle(events)
        frequency, _ = instantaneous(wave)
        assert np.abs(frequency[inside] / expected[inside] - 1).max() < 0.02
        assert np.isnan(events.pitch[0])


@pytest.mark.parametrize("name", ["am_slow", "am_middle", "am_fast", "tremolo"])
def test_amplitude_modulation_has_its_rate_and_depth(bank, name):
    for wave, parameters, events in each(bank, name):
        if name == "tremolo":  # its first harmonic alone
            frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE)
            keep = np.abs(frequency - parameters["f0"]) < 0.5 * parameters["f0"]
            wave = np.fft.irfft(np.fft.rfft(wave) * keep, SAMPLES)
        inside = middle(events)
        envelope = instantaneous(wave)[1][inside]
        depth = (envelope.max() - envelope.min()) / (envelope.max() + envelope.min())
        assert abs(depth - parameters["depth"]) < 0.05
        ripple = (envelope - envelope.mean()) * np.hanning(len(envelope))
        size = 16 * SAMPLES
        rate = np.fft.rfftfreq(size, 1 / RATE)[np.argmax(np.abs(np.fft.rfft(ripple, size)))]
        assert abs(rate - parameters["rate"]) < max(0.5, 0.05 * parameters["rate"])


@pytest.mark.parametrize("name", ["fm_slow", "fm_middle"])
def test_frequency_modulation_has_its_rate_and_depth(bank, name):
    for wave, parameters, events in each(bank, name):
        inside = middle(events)
        frequency = instantaneous(wave)[0][inside]
        expected = parameters["f0"] * (
            1 + parameters["depth"] * np.sin(2 * np.pi * parameters["rate"] * (TIME[inside] - parameters["onset"]))
        )
        assert np.abs(frequency / expected - 1).max() < 0.02


def test_harmonics_stand_at_multiples_and_nothing_between(bank):
    names = ["square", "sawtooth", "pulse_train", "harmonic_bright", "missing_fundamental"]
    for wave, parameters, events in each(bank, *names):
        # Well inside, with a window whose side lobes are below -90 dB, so that aliases would show.
        inside = np.flatnonzero(middle(events, 0.15))
        frequency = np.fft.rfftfreq(8 * len(inside), 1 / RATE)
        from scipy.signal.windows import blackmanharris

        energy = np.abs(np.fft.rfft(wave[inside] * blackmanharris(len(inside)), 8 * len(inside))) ** 2
        harmonic = frequency / parameters["f0"]
        away = np.abs(harmonic - np.round(harmonic)) * parameters["f0"] > 12 * RATE / len(inside)
        if away.any():
            assert energy[away].max() < 1e-6 * energy.max()
        assert energy[harmonic < 0.5].max() < 1e-6 * energy.max()


def test_the_missing_fundamental_is_missing(bank):
    for wave, parameters, events in each(bank, "missing_fundamental"):
        frequency, energy = power(wave)
        assert energy[frequency < 2.5 * parameters["f0"]].sum() < 1e-2 * energy.sum()
        chex.assert_trees_all_close(events.pitch[0], np.float32(parameters["f0"]), rtol=1e-5)


def test_odd_timbres_have_no_even_harmonics(bank):
    for wave, parameters, _ in each(bank, "harmonic_odd", "square", "triangle"):
        frequency, energy = power(wave, taper=True)
        second = energy[np.abs(frequency - 2 * parameters["f0"]) < 5].max()
        assert second < 1e-4 * energy.max()


def test_a_swell_rises_and_a_string_dies_away(bank):
    for wave, parameters, _ in each(bank, "swell"):
        window = np.abs(wave[(parameters["onset"] <= TIME) & (parameters["onset"] + parameters["attack"] >= TIME)])
        third = len(window) // 3
        assert window[:third].max() < 0.5 * window[-third:].max()
    for name in ("plucked_string", "bell", "struck_bar", "noise_hit"):
        for wave, parameters, _ in each(bank, name):
            inside = (parameters["onset"] <= TIME) & (parameters["onset"] + parameters["duration"] >= TIME)
            halves = np.array_split(wave[inside].astype(np.float64) ** 2, 2)
            assert halves[1].sum() < 0.5 * halves[0].sum(), name


@pytest.mark.parametrize("name", ["clicks_slow", "clicks_fast", "beeps_fast", "noise_bursts_slow", "notes_repeated"])
def test_trains_have_their_rate(bank, name):
    for wave, parameters, events in each(bank, name):
        count = events.count
        assert count == np.clip(np.floor(np.float32(parameters["duration"]) * np.float32(parameters["rate"])), 1, 32)
        chex.assert_trees_all_close(
            np.diff(events.onset[:count]), np.full(count - 1, 1 / parameters["rate"]), rtol=1e-3
        )
        for onset, offset in zip(events.onset[:count], events.offset[:count], strict=True):
            inside = (onset <= TIME) & (offset >= TIME)
            assert np.abs(wave[inside]).max() > 0.2 * np.abs(wave).max()


def test_vowels_peak_at_their_formants():
    sound = CLASSES["vowel_a"]
    parameters = {**sound.sample(jax.random.key(0)), "f0": 100.0, "tract": 1.0, "onset": 0.0, "duration": 2.0}
    frequency, energy = power(np.asarray(sound.synthesize(parameters)), taper=True)
    assert 600 < frequency[np.argmax(energy * (frequency > 350))] < 850


def test_pink_noise_falls_by_three_decibels_an_octave():
    bank = synthetic.bank(jax.random.key(5), per_class=16, classes=["noise_pink", "noise_white"])
    spectrum = np.abs(np.fft.rfft(bank.waves / np.abs(bank.waves).max(axis=1, keepdims=True))) ** 2
    frequency = np.fft.rfftfreq(SAMPLES, 1 / RATE)

    def level(which, centre):
        band = (centre / 1.4 < frequency) & (frequency < centre * 1.4)
        return 10 * np.log10(spectrum[bank.class_index == which][:, band].mean())

    assert abs((level(0, 4000) - level(0, 500)) / 3 + 3) < 0.3
    assert abs(level(1, 4000) - level(1, 500)) < 0.6


def test_mixtures_hold_both_sources(bank):
    for wave, parameters, events in each(bank, "two_tones"):
        assert events.count == 2
        frequency, energy = power(wave, taper=True)
        for pitch in (parameters["f0"], parameters["f0"] * 2 ** parameters["octaves"]):
            near = np.abs(frequency - pitch) < 3
            assert energy[near].max() > 0.9 * energy[np.abs(frequency - pitch) < 30].max()
    assert all(events.count == 3 for _, _, events in each(bank, "chord"))


def test_a_sound_does_not_depend_on_its_company(bank):
    few = synthetic.bank(jax.random.key(0), per_class=2, classes=["bell", "noise_pink", "tone_low"])
    for index, name in enumerate(few.class_names):
        chex.assert_trees_all_equal(few.waves[2 * index : 2 * index + 2], bank.waves[rows(bank, name)[:2]])
    again = synthetic.bank(jax.random.key(0), per_class=2, classes=["bell", "noise_pink", "tone_low"])
    chex.assert_trees_all_equal(few.waves, again.waves)
    other = synthetic.bank(jax.random.key(1), per_class=2, classes=["bell"])
    assert np.abs(other.waves - few.waves[:2]).max() > 0.01
    assert np.abs(few.waves[0] - few.waves[1]).max() > 0.01


@pytest.mark.parametrize("name", ["vibrato", "noise_bursts_fast", "two_notes"])
def test_jit_and_vmap_make_the_same_sounds(name):
    sound = CLASSES[name]
    keys = jax.random.split(jax.random.key(7), 3)
    make = jax.jit(jax.vmap(lambda key: sound.synthesize(sound.sample(key, 8000, 0.5), 8000, 0.5)))
    together = make(keys)
    chex.assert_shape(together, (3, 4000))
    for key, wave in zip(keys, together, strict=True):
        parameters = sound.sample(key, 8000, 0.5)
        # Powers differ in the last bit between numpy and XLA; half a second later that is a phase of about 1e-4.
        chex.assert_trees_all_close(sound.synthesize(parameters, 8000, 0.5), wave, atol=2e-3)
        traced = jax.jit(lambda key: sound.events(sound.sample(key, 8000, 0.5), 8000))(key)
        chex.assert_trees_all_close(sound.events(parameters, 8000), traced, rtol=1e-4)


def test_low_sample_rates_have_nothing_above_nyquist():
    low = synthetic.bank(jax.random.key(3), per_class=2, sample_rate=8000, seconds=0.5)
    assert np.isfinite(low.waves).all() and np.abs(low.waves).max() <= 1
    assert np.nanmax(low.events.high) <= 4000
    assert low.waves.shape == (2 * len(CLASSES), 4000)


def test_a_bank_becomes_clips(bank):
    clips = bank.clips()
    assert len(clips) == len(bank) and clips.sample_rate == RATE
    assert clips.names["class"] == bank.class_names
    assert clips.files[PER_CLASS] == f"{bank.class_names[1]}/0000"
    chex.assert_trees_all_equal(clips.waves[4], bank.waves[4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["bel"]}, "unknown sound class 'bel'; did you mean 'bell'"),
        ({"classes": []}, "one or more different names"),
        ({"classes": ["bell", "bell"]}, "one or more different names"),
        ({"per_class": 0}, "per_class must be 1 or more, not 0"),
        ({"sample_rate": 4000}, "sample_rate must be 8000 Hz or more, not 4000"),
        ({"seconds": 0.1}, "seconds must be 0.5 or more, not 0.1"),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        synthetic.bank(jax.random.key(0), **{"per_class": 1, **options})
