"""Verdicts as the watch takes them from answers of the server."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mods_grpc.client import DetectResult, Verdict, VerdictStatus
from mods_grpc.client.results import ServedModel


def find_served(verdicts: Iterable[Verdict]) -> ServedModel | None:
    """Return the version that judged the first scored verdict; None if none is scored."""
    return next((v.model for v in verdicts if v.status is VerdictStatus.SCORED and v.model is not None), None)


def rename(verdict: Verdict, series: str) -> Verdict:
    """Return a verdict under another name of its series."""
    return verdict if verdict.series == series else replace(verdict, series=series)


def take_last(result: DetectResult, verdict: Verdict) -> Verdict:
    """Return the verdict on the last row of a result, under the series and time of `verdict`; `verdict` if it was not scored."""
    if result.verdicts:
        return result.verdicts[-1]
    if not result.status or result.status[-1] is not VerdictStatus.SCORED:
        return verdict
    p_value = float(result.p_values[-1])
    return Verdict(
        series=verdict.series,
        observe_time=verdict.observe_time,
        status=VerdictStatus.SCORED,
        p_value=p_value,
        score=-float(np.log10(p_value)),
        anomalous=bool(result.anomalous[-1]),
        model=result.model,
    )
