"""What the list shows of an alert."""

from dataclasses import replace

import pytest

from mods_grpc.cli.alerts.summaries import describe_what, describe_who
from mods_grpc.client import FeatureVerdict
from mods_grpc.ids.evidence.evidence import Dimension
from tests.support.alerts.sample_alerts import ALERT
from tests.support.alerts.written_evidence import dimension, evidence

FEATURE = FeatureVerdict(feature="http_in", observed=103.0, expected=60.0, lower=31.0, upper=92.0, p_value=1e-5, share=0.9)


@pytest.mark.parametrize(
    ("observed", "recent", "what"),
    [
        (103.0, (30.0, 34.0, 32.0, 103.0), "http_in 103 (31-92)"),
        (80.0, (30.0, 34.0, 32.0, 80.0), "http_in 80 (usual 32)"),
        (80.0, (30.0, 34.0, 32.0, 31.0, 90.0, 80.0), "http_in 80 (usual 31.5)"),
        (80.0, (30.0, 34.0, 80.0), "http_in 80"),
        (80.0, (30.0, 34.0, 32.0, 31.0), "http_in 80"),
        (0.0, (30.0, 34.0, 32.0, 0.0), "http_in 0 (31-92)"),
        (float("inf"), (30.0, 34.0, 32.0, 33.0), "http_in ?"),
        (None, (30.0, 34.0, 32.0, 33.0), "http_in missing"),
    ],
)
def test_the_list_has_the_band_only_of_a_value_outside_it_and_else_what_was_usual(observed, recent, what):
    feature = replace(FEATURE, observed=observed)
    assert describe_what(replace(ALERT, features=(feature,), recent=recent)) == what


@pytest.mark.parametrize(
    ("covering", "is_capped", "who"),
    [(178, False, "203 sources"), (178, True, "203+ sources"), (0, False, "203 sources"), (4, True, "4 sources")],
)
def test_of_a_spread_dimension_the_list_has_the_number_of_the_sentence(covering, is_capped, who):
    sources = dimension(Dimension.SOURCE, ("203.0.113.7", 61, 0, 0.05), distinct=203, covering=covering, is_capped=is_capped)
    alert = replace(ALERT, evidence=evidence(sources))
    assert describe_who(alert) == who
