"""Rules that decide which p-values of many series are alarms.

Each has `levels(there, p_value)`, the p-values at or below which rows of these series, all of one time, are anomalous, and
`update(there, p_value, started)`, called then with those that started an alarm.
"""

import numpy as np

from benchmarks.detection.total_budget.traffic import ROWS_A_DAY
from mods_grpc.alarm_rules.total_budget import TotalBudget, learning_budget
from mods_grpc.array_types import NANOS_PER_SECOND

SLIDE_SECONDS = 86_400 // ROWS_A_DAY
STEP = 0.2  # powers of ten by which an alarm makes the level stricter
LENIENT = 1e-3  # above it no peak of an episode is remembered
LONG_AGO = -(10**9)


class EqualShare:
    """The level at which a calibrated series raises its share of the total."""

    def __init__(self, series, total, holdoff):
        self.total, self.holdoff = total, holdoff
        self.now, self.seen = 0, np.full(series, LONG_AGO)

    @property
    def level(self):
        live = max(1, (self.seen > self.now - ROWS_A_DAY).sum())
        return self.holdoff * self.total / ROWS_A_DAY / live

    def levels(self, there, _p_value):
        self.seen[there] = self.now
        return np.full(len(there), self.level)

    def update(self, _there, _p_value, _started):
        self.now += 1


class Pooled(EqualShare):
    """The share times one factor that each alarm makes smaller and time makes larger."""

    factor = 1.0

    def levels(self, there, p_value):
        return super().levels(there, p_value) * self.factor

    def update(self, there, p_value, started):
        super().update(there, p_value, started)
        change = 10 ** (STEP * (self.total / ROWS_A_DAY - started.sum()))
        self.factor = min(max(self.factor * change, 1e-3), 100.0)


class Rank(EqualShare):
    """The peak of an episode that only `total` a day reached, of the last week."""

    def __init__(self, series, total, holdoff):
        super().__init__(series, total, holdoff)
        self.peak, self.last = np.ones(series), np.full(series, LONG_AGO)
        self.peaks, self.days, self.threshold = [], [], None

    def levels(self, there, p_value):
        levels = super().levels(there, p_value)
        return levels if self.threshold is None else np.full(len(there), self.threshold)

    def update(self, there, p_value, started):
        over = self.now - self.last == self.holdoff + 1
        self.peaks += self.peak[over].tolist()
        near = p_value <= LENIENT
        members, is_new = there[near], self.now - self.last[there[near]] > self.holdoff
        self.peak[members] = np.where(is_new, p_value[near], np.minimum(self.peak[members], p_value[near]))
        self.last[members] = self.now
        super().update(there, p_value, started)
        if self.now % ROWS_A_DAY == 0:
            self.days, self.peaks = [*self.days, self.peaks][-7:], []
            self.threshold = np.sort(np.concatenate(self.days))[self.total * len(self.days) - 1]


class OnlineFdr(EqualShare):
    """LORD++ (Ramdas et al. 2017) at an FDR of 0.1, or SAFFRON (Ramdas et al. 2018) with candidates below `candidates`.

    All rows of one time are tested at the level of the middle one. An open episode is not tested again.
    """

    def __init__(self, series, total, holdoff, candidates=None):
        super().__init__(series, total, holdoff)
        self.candidates, self.tests, self.rejections = candidates, 0, []

    @staticmethod
    def spend(index):
        index = np.maximum(index, 1.0)
        return 0.0722 * np.log(np.maximum(index, 2)) / (index * np.exp(np.sqrt(np.log(index))))

    def levels(self, there, _p_value):
        fdr, middle = 0.1, len(there) / 2 if self.candidates is None else 1
        level = fdr / 2 * self.spend(self.tests + middle)
        if self.rejections:
            since = self.tests + middle - np.array(self.rejections[-3000:])
            level += fdr * self.spend(since).sum() - fdr / 2 * self.spend(since[:1]).sum()
        return np.full(len(there), level if self.candidates is None else min(self.candidates, (1 - self.candidates) * level))

    def update(self, there, p_value, started):
        self.tests += len(there) if self.candidates is None else (p_value <= self.candidates).sum()
        self.rejections += [self.tests] * int(started.sum())


class Ours:
    """`TotalBudget`."""

    def __init__(self, series, total, holdoff):
        self.rule = TotalBudget(total, SLIDE_SECONDS, holdoff * SLIDE_SECONDS * NANOS_PER_SECOND)
        self.rule.lenient_level = holdoff * learning_budget(SLIDE_SECONDS) / ROWS_A_DAY
        self.names, self.now = np.array([f"host-{index}" for index in range(series)]), 0

    def levels(self, there, p_value):
        return self.rule.judge(self.names[there].tolist(), self.now * SLIDE_SECONDS * NANOS_PER_SECOND, p_value)

    def update(self, _there, _p_value, _started):
        self.now += 1


RULES = {
    "share of each live series": EqualShare,
    "share and one common factor": Pooled,
    "rank among the peaks of a week": Rank,
    "LORD++ at an FDR of 0.1": OnlineFdr,
    "SAFFRON at an FDR of 0.1": lambda *arguments: OnlineFdr(*arguments, candidates=0.01),
    "share, own exponent and common factor": Ours,
}
