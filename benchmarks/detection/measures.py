"""Measures of scores and alarms against labels. None is point-adjusted: under that a random score looks excellent."""

import numpy as np
from vus.analysis.robustness_eval import generate_curve

VUS_WINDOW = 60
VUS_THRESHOLDS = 250


def find_ranges(flags):
    """Return starts and ends (exclusive) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def compute_vus(label, score):
    """Return VUS-ROC and VUS-PR (Paparrizos et al. 2022)."""
    score = np.nan_to_num(np.asarray(score, np.float64), nan=np.nanmin(score))
    curve = generate_curve(label, score, VUS_WINDOW, version="opt", thre=VUS_THRESHOLDS)
    return {"vus_roc": float(curve[-2]), "vus_pr": float(curve[-1])}


def compute_range_f1(label, alarm):
    """Return range-based F1 (Tatbul et al. 2018) with flat bias; half of recall is for existence."""
    real, alarmed = find_ranges(label), find_ranges(alarm)
    if not real or not alarmed:
        return 0.0
    recall = np.mean([0.5 * bool(alarm[a:b].any()) + 0.5 * alarm[a:b].mean() for a, b in real])
    precision = np.mean([label[a:b].mean() for a, b in alarmed])
    return float(2 * recall * precision / (recall + precision)) if recall + precision else 0.0


def merge_episodes(alarm, holdoff):
    """Return the episodes of an alarm: runs at most `holdoff` rows apart are merged."""
    merged = []
    for start, end in find_ranges(alarm):
        if merged and start - merged[-1][1] <= holdoff:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _mark_near_labels(label, holdoff):
    """Return which rows lie within `holdoff` rows of a labelled one: an alarm there may belong to it."""
    return np.convolve(label, np.ones(2 * holdoff + 1), "same") > 0


def count_false_episodes(label, alarm, holdoff):
    """Count the episodes without a row near a labelled range."""
    near = _mark_near_labels(label, holdoff)
    return sum(not near[slice(*span)].any() for span in merge_episodes(alarm, holdoff))


def measure_alarms(label, alarm, holdoff, rows_per_day):
    """Return the labelled ranges detected, the delay in rows, false episodes, and days without labels."""
    real = find_ranges(label)
    delays = [int(np.argmax(alarm[a:b])) for a, b in real if alarm[a:b].any()]
    quiet_days = float((~_mark_near_labels(label, holdoff)).sum() / rows_per_day)
    return {
        "range_f1": compute_range_f1(label, alarm),
        "found": len(delays),
        "events": len(real),
        "delay_rows": float(np.median(delays)) if delays else None,
        "false_episodes": count_false_episodes(label, alarm, holdoff),
        "quiet_days": quiet_days,
        "alarm_share": float(np.mean(alarm)),
    }
