"""How scores and alarms meet labels. Never point-adjusted: a random score looks excellent under that."""

import numpy as np
from vus.analysis.robustness_eval import generate_curve

VUS_WINDOW = 60
VUS_THRESHOLDS = 250


def ranges(flags):
    """Return starts and ends (exclusive) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def volumes(label, score):
    """Return VUS-ROC and VUS-PR (Paparrizos et al. 2022)."""
    score = np.nan_to_num(np.asarray(score, np.float64), nan=np.nanmin(score))
    curve = generate_curve(label, score, VUS_WINDOW, version="opt", thre=VUS_THRESHOLDS)
    return {"vus_roc": float(curve[-2]), "vus_pr": float(curve[-1])}


def range_f1(label, alarm):
    """Return range-based F1 (Tatbul et al. 2018), flat bias, half of recall for being found at all."""
    real, alarmed = ranges(label), ranges(alarm)
    if not real or not alarmed:
        return 0.0
    recall = np.mean([0.5 * bool(alarm[a:b].any()) + 0.5 * alarm[a:b].mean() for a, b in real])
    precision = np.mean([label[a:b].mean() for a, b in alarmed])
    return float(2 * recall * precision / (recall + precision)) if recall + precision else 0.0


def episodes(alarm, holdoff):
    """Return runs of alarms, those at most `holdoff` rows apart together."""
    merged = []
    for start, end in ranges(alarm):
        if merged and start - merged[-1][1] <= holdoff:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _near(label, holdoff):
    """Tell which rows lie so near to a labelled range that an alarm there may belong to it."""
    return np.convolve(label, np.ones(2 * holdoff + 1), "same") > 0


def false_episodes(label, alarm, holdoff):
    """Count the episodes that have nothing to do with a labelled range."""
    near = _near(label, holdoff)
    return sum(not near[slice(*span)].any() for span in episodes(alarm, holdoff))


def alarm_measures(label, alarm, holdoff, rows_a_day):
    """Return what the alarms are worth: labelled ranges found, delay in rows, false episodes a day of unlabelled rows."""
    real = ranges(label)
    delays = [int(np.argmax(alarm[a:b])) for a, b in real if alarm[a:b].any()]
    quiet_days = float((~_near(label, holdoff)).sum() / rows_a_day)
    return {
        "range_f1": range_f1(label, alarm),
        "found": len(delays),
        "events": len(real),
        "delay_rows": float(np.median(delays)) if delays else None,
        "false_episodes": false_episodes(label, alarm, holdoff),
        "quiet_days": quiet_days,
        "alarm_share": float(np.mean(alarm)),
    }
