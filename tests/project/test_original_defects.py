"""The defects of the original system, and the tests that would have caught them: an index that is checked itself."""

import re

import pytest

from tests.support.paths import ROOT

TESTS = ROOT / "tests"

CAUGHT_BY = {
    "1 metrics are off by one: the forecast for t+1 is scored against the value at t": (
        "test_a_no_change_forecaster_scores_exactly_persistence",
        "test_the_forecast_for_a_step_is_compared_with_the_value_at_that_step",
    ),
    "2 no metrics with differences off, a crash with them on above one step": (
        "test_metrics_are_complete_at_every_step",
        "test_metrics_are_complete_without_differences_and_with_a_level",
    ),
    "3 the scaler that is saved was refitted on the test data": ("test_the_scaler_saw_the_training_windows_only",),
    "4 stackedLSTM is not stacked; width, dropout and normalisation are ignored": (
        "test_is_what_its_name_says",
        "test_width_and_depth_change_the_number_of_weights",
        "test_dropout_and_batch_normalization_are_in_the_network_only_when_asked_for",
    ),
    "5 a sigmoid output cannot leave the training range": ("test_is_finite_on_constant_input_and_can_leave_the_training_range",),
    "6 only the last step is forecast, without intervals": (
        "test_emits_the_whole_path_of_every_feature",
        "test_a_forecast_is_the_whole_path_with_its_times_in_raw_units",
        "test_intervals_have_the_stated_coverage_and_the_fused_p_is_uniform_on_dependent_features",
    ),
    "7 no validation split, the best weights are lost, no seed": (
        "test_neighbouring_parts_are_a_window_and_a_horizon_apart",
        "test_the_fit_stops_when_the_validation_loss_no_longer_falls",
        "test_the_weights_of_the_best_epoch_are_restored",
        "test_the_same_seed_gives_the_same_weights_and_another_seed_others",
    ),
    "8 missing values become 0 before they are interpolated": (
        "test_missing_rows_are_inserted_and_stay_missing_until_the_repair",
        "test_no_window_and_no_target_touches_a_missing_value",
    ),
    "9 unit conversion truncates and crashes on filled rows": (
        "test_bytes_are_converted_in_floats_and_missing_rows_do_not_matter",
    ),
    "10 the cache swaps channels of queries in another order": (
        "test_the_order_of_protocols_never_swaps_the_columns_of_two_queries",
        "test_a_changed_file_is_seen_because_nothing_is_cached",
    ),
    "11 models with custom layers cannot be loaded again": ("test_weights_survive_saving_and_loading_into_a_rebuilt_network",),
    "12 loading runs code, nobody is authenticated, whatever holds its port is killed": (
        "test_a_pickled_array_is_never_executed",
        "test_artifacts_are_data_and_nothing_that_runs_code_is_imported",
        "test_sigterm_exits_with_0_and_a_second_server_on_the_port_exits_with_2",
    ),
    "13 the model is read anew on every prediction": ("test_the_model_is_read_once_and_not_on_every_prediction",),
}


@pytest.mark.parametrize("defect", CAUGHT_BY)
def test_every_defect_of_the_original_has_a_test_that_would_have_caught_it(defect):
    defined = set(re.findall(r"^def (test_\w+)", "".join(path.read_text() for path in TESTS.rglob("test_*.py")), re.MULTILINE))
    assert [name for name in CAUGHT_BY[defect] if name not in defined] == []
