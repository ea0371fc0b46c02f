"""The manifest: written and read without loss, and refused with the place and the reason when anything in it is odd."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mods_grpc.artifact import Calibration, DayScale, IntervalReference, Manifest, Metric, ScoreCurve, Tail
from mods_grpc.errors import ArtifactError
from tests.support.models.tiny import make_manifest

METRIC = Metric(metric="mae", feature="conn_in", step=1, value=0.1, persistence=1 / 3)


@pytest.fixture(scope="module")
def whole():
    return make_manifest(
        hyper_parameters={"sequence_len": 4, "dropout": 0.1, "batch_normalization": True, "architecture": "mean"},
        scaler={"mean": (1.0, 2.5), "scale": (1e-300, 1e300)},
        libraries={"numpy": "2.1"},
        metrics=(METRIC,),
    )


def tree_of(whole):
    return json.loads(whole.to_json())


def refusal(tree):
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(text)
    return caught.value.message


def test_what_was_written_is_read_again_exactly(whole):
    text = whole.to_json()
    read = Manifest.from_json(text)
    assert read == whole
    assert read.to_json() == text
    assert text.endswith(b"}\n")


def test_a_manifest_that_was_read_cannot_be_changed(whole):
    read = Manifest.from_json(whole.to_json())
    with pytest.raises(AttributeError):
        read.version = 2
    with pytest.raises(TypeError):
        read.tolerance["CPUExecutionProvider"] = 1.0


@settings(max_examples=50, deadline=None)
@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_numbers_and_texts_survive_to_the_bit(number, text, seed):
    whole = make_manifest(scaler={"mean": (number,)}, architecture=text, seed=seed, hyper_parameters={"x": number, "y": text})
    assert Manifest.from_json(whole.to_json()) == whole


def test_keys_unknown_and_absent_are_named(whole):
    tree = tree_of(whole)
    del tree["seed"]
    tree["sed"] = 1
    assert refusal(tree) == "manifest: unknown keys ['sed'], absent keys ['seed']"


def test_a_key_of_a_nested_part_is_named_with_its_place(whole):
    tree = tree_of(whole)
    tree["features"][1]["colour"] = "red"
    assert refusal(tree) == "manifest.features[1]: unknown keys ['colour'], absent keys []"


def test_what_is_younger_than_a_file_may_be_absent_from_it(whole):
    tree = tree_of(whole)
    for younger in ("day_scales", "interval", "soft_threshold"):
        del tree["calibration"][younger]
    read = Manifest.from_json(json.dumps(tree).encode())
    assert read == replace(whole, calibration=replace(whole.calibration, day_scales=(), interval=None, soft_threshold=0.0))
    assert whole.calibration.soft_threshold > 0


def test_scales_by_time_of_day_fit_the_model_and_survive_a_round_trip(whole):
    day = DayScale(factors=(1.5,) * 24, curve=whole.calibration.fused)
    rows = ((None, day),) * len(whole.calibration.horizons)
    manifest = replace(whole, calibration=replace(whole.calibration, day_scales=rows))
    assert Manifest.from_json(manifest.to_json()) == manifest
    for wrong in (rows[:1], ((day,),) * len(rows), ((None, replace(day, factors=(1.0,) * 23)),) * len(rows)):
        with pytest.raises(ArtifactError, match=r"calibration day_scales|factors of a day"):
            replace(whole, calibration=replace(whole.calibration, day_scales=wrong))


def test_an_interval_fits_the_model_and_survives_a_round_trip(whole):
    row = ((0.5, 1.0),) * whole.horizon
    interval = IntervalReference(levels=(0.05, 0.5, 0.95), narrowest=row, widest=row)
    manifest = replace(whole, calibration=replace(whole.calibration, interval=interval))
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert (manifest.calibration.outputs_per_feature, whole.calibration.outputs_per_feature) == (3, 1)
    for wrong, reason in (
        ({"levels": (0.5,)}, "levels of the interval are not two or more"),
        ({"levels": (0.5, 0.05)}, "levels of the interval are not two or more"),
        ({"levels": (0.0, 0.95)}, "levels of the interval are not two or more"),
        ({"narrowest": row[1:]}, r"calibration widths are not \(horizon, features\)"),
        ({"widest": ((1.0,),) * len(row)}, r"calibration widths are not \(horizon, features\)"),
        ({"narrowest": ((0.0, 1.0),) * len(row)}, "a calibration scale is not positive"),
        ({"widest": ((0.4, 1.0),) * len(row)}, "the widest interval is narrower than the narrowest"),
    ):
        with pytest.raises(ArtifactError, match=reason):
            replace(whole, calibration=replace(whole.calibration, interval=replace(interval, **wrong)))
    tree = tree_of(manifest)
    tree["calibration"]["interval"]["floors"] = []
    with pytest.raises(ArtifactError, match="unknown keys"):
        Manifest.from_json(json.dumps(tree).encode())


WRONG = {
    "a number for text": ("architecture", 1, "manifest.architecture: expected str, found int"),
    "text for a number": ("seed", "1", "manifest.seed: expected int, found str"),
    "a truth value for a whole number": ("seed", True, "manifest.seed: expected int, found bool"),
    "a truth value for a number": ("false_alarms_per_day", True, "manifest.false_alarms_per_day: expected number, found bool"),
    "a number for a truth value": ("differencing", 0, "manifest.differencing: expected bool, found int"),
    "a fraction for a whole number": ("horizon", 3.0, "manifest.horizon: expected int, found float"),
    "null where nothing may be absent": ("training_range", None, "manifest.training_range: expected dict, found NoneType"),
    "an object for a list": ("features", {}, "manifest.features: expected list, found dict"),
    "a list for an object": ("tolerance", [], "manifest.tolerance: expected dict, found list"),
    "text in a vector": ("scaler", {"mean": ["1"]}, "manifest.scaler.mean[0]: expected number, found str"),
    "a list among scalars": ("hyper_parameters", {"x": [1]}, "manifest.hyper_parameters.x: expected text, a finite number"),
    "a number beyond 64 bits": ("seed", 2**63, "manifest.seed: not a 64-bit number"),
    "a huge scalar": ("hyper_parameters", {"x": 10**400}, "manifest.hyper_parameters.x: not a 64-bit number"),
    "a whole number no float can hold": ("false_alarms_per_day", 10**400, "manifest.false_alarms_per_day: not a finite number"),
    "half a surrogate pair": ("architecture", "\ud800", "manifest.architecture: expected text"),
    "an odd key": ("libraries", {"a\nb": "1"}, "manifest.libraries: expected keys"),
    "a name like a path": ("name", "../tiny", "manifest: name does not match"),
    "a name too long": ("name", "m" * 65, "manifest: name does not match"),
    "a name with a line feed": ("name", "tiny\n", "manifest: name does not match"),
    "no name": ("name", "", "manifest: name does not match"),
    "version 0": ("version", 0, "manifest: version is not in"),
    "a version with ten digits": ("version", 10**9, "manifest: version is not in"),
    "another schema": ("schema_version", 2, "manifest: schema_version is 2, not 1"),
    "a time that is none": ("created", "yesterday", "manifest: created is not an ISO 8601 time"),
    "a time without zone": ("created", "2019-06-01T00:00:00", "manifest: created is not an ISO 8601 time"),
    "parameters below 0": ("parameters", -1, "manifest: parameters is below 0"),
    "no features": ("features", [], "manifest: no features"),
    "horizon 0": ("horizon", 0, "manifest: horizon is below 1"),
    "a horizon above the calibration's": ("horizon", 4, "manifest: calibration scales are not (horizon, features)"),
    "no window": ("sequence_len", 0, "manifest: sequence_len is not in"),
    "a window without end": ("sequence_len", 2**40, "manifest: sequence_len is not in"),
    "rows that do not follow": ("rows", 5, "manifest: rows is not sequence_len"),
    "differencing without its row": ("differencing", True, "manifest: rows is not sequence_len"),
    "no slide": ("slide_seconds", 0, "manifest: slide_seconds is not in"),
    "a slide above the window": ("slide_seconds", 3601, "manifest: slide_seconds is not in"),
    "a window of an age": ("window_seconds", 10**15, "manifest: window_seconds is above"),
    "no false alarms": ("false_alarms_per_day", 0.0, "manifest: false_alarms_per_day is out of range"),
    "all false alarms": ("false_alarms_per_day", 144.0, "manifest: false_alarms_per_day is out of range"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_refused_with_its_place(whole, case):
    key, value, message = WRONG[case]
    assert refusal({**tree_of(whole), key: value}).startswith(message)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("key", ["false_alarms_per_day", "hyper_parameters"])
def test_numbers_that_are_not_finite_are_refused(whole, key, text):
    tree = tree_of(whole)
    tree[key] = "HERE" if key == "false_alarms_per_day" else {"x": "HERE"}
    assert "finite number" in refusal(json.dumps(tree).replace('"HERE"', text).encode())


NOT_JSON = {
    "nothing": b"",
    "not UTF-8": b'{"name": "\xff"}',
    "UTF-16": "{}".encode("utf-16"),
    "cut": b'{"name": "ti',
    "more than one": b"{}{}",
    "nested deeply": b"[" * 200_000,
    "a number of many digits": b'{"seed": ' + b"9" * 10_000 + b"}",
    "a key twice": b'{"name": 1, "name": 2}',
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_what_is_no_json_is_refused(case):
    assert refusal(NOT_JSON[case]).startswith("manifest: not valid JSON")


@pytest.mark.parametrize("tree", [[], None, "tiny", 1, {}])
def test_json_that_is_no_manifest_is_refused(tree):
    assert refusal(tree).startswith("manifest: ")


def test_a_refusal_stays_short_whatever_the_keys(whole):
    tree = tree_of(whole) | {f"{number}" * 10_000: 1 for number in range(100)}
    assert len(refusal(tree)) < 1_000


def curve(**changes):
    return ScoreCurve(**{"samples": 3, "scores": (1.0, 2.0), "counts": (2, 1), "tail": None} | changes)


def calibrated(whole, **changes):
    """A manifest whose first curve is changed."""
    rows = whole.calibration.curves
    return replace(whole, calibration=replace(whole.calibration, curves=((curve(**changes), *rows[0][1:]), *rows[1:])))


CURVES = {
    "an empty curve": ({"scores": (), "counts": ()}, "a score curve is empty or ragged"),
    "a ragged curve": ({"scores": (1.0,)}, "a score curve is empty or ragged"),
    "scores that fall": ({"scores": (2.0, 1.0)}, "a score curve does not ascend"),
    "a count below 0": ({"counts": (2, -1)}, "a count of a score curve is out of range"),
    "a count of all": ({"counts": (3, 1)}, "a count of a score curve is out of range"),
    "a tail without scale": ({"tail": Tail(threshold=1, probability=0.1, shape=0, scale=0)}, "a tail is out of range"),
    "a bounded tail": ({"tail": Tail(threshold=1, probability=0.1, shape=-0.1, scale=1)}, "a tail is out of range"),
    "a tail of everything": ({"tail": Tail(threshold=1, probability=1.0, shape=0, scale=1)}, "a tail is out of range"),
}


@pytest.mark.parametrize("case", CURVES)
def test_a_calibration_that_cannot_be_is_refused(whole, case):
    changes, message = CURVES[case]
    assert calibrated(whole)  # the curve is good without the change
    with pytest.raises(ArtifactError, match=message):
        calibrated(whole, **changes)


def test_a_calibration_of_another_shape_is_refused(whole):
    calibration = whole.calibration
    for changed, message in (
        (replace(calibration, scales=calibration.scales[:-1]), "scales are not"),
        (replace(calibration, scales=(calibration.scales[0][:1], *calibration.scales[1:])), "scales are not"),
        (replace(calibration, curves=calibration.curves[:-1]), "curves are not"),
        (replace(calibration, curves=((*calibration.curves[0], curve()), *calibration.curves[1:])), "curves are not"),
        (replace(calibration, scales=((0.0, 1.0), *calibration.scales[1:])), "scale is not positive"),
        (replace(calibration, soft_threshold=-1.0), "soft_threshold is below 0"),
    ):
        assert isinstance(changed, Calibration)
        with pytest.raises(ArtifactError, match=message):
            replace(whole, calibration=changed)


def test_features_need_names_that_differ_and_can_be_printed(whole):
    first, second = whole.features
    for changed, message in (
        ((first, first), "feature names repeat"),
        ((first, replace(second, name="")), "empty or not printable"),
        ((first, replace(second, name="a\x1b[31m")), "empty or not printable"),
    ):
        with pytest.raises(ArtifactError, match=message):
            replace(whole, features=changed)


def test_a_metric_is_of_a_step_the_model_forecasts(whole):
    for step in (0, -1, 4):
        with pytest.raises(ArtifactError, match="step of a metric"):
            replace(whole, metrics=(replace(METRIC, step=step),))


def test_a_number_that_is_not_finite_is_not_written(whole):
    with pytest.raises(ArtifactError, match="not finite"):
        replace(whole, scaler={"mean": (float("nan"),)}).to_json()


def test_a_file_that_is_not_listed_is_named(whole):
    with pytest.raises(ArtifactError, match=r"manifest: lists no model\.onnx"):
        whole.file("model.onnx")
