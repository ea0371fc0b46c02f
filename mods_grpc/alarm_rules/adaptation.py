"""How the level at which a series alarms adapts to it: one rule for the server's streams and for the watch.

Adaptive conformal inference (Gibbs & Candes 2021), on a logarithmic scale and for episodes: each start of an episode makes
the level stricter, each quiet row a little more lenient, so much that both cancel out where episodes start at the rate of
the budget. It stands still while an episode is open, so an anomaly is learnt from once, by the alarm it raised.
"""

from dataclasses import dataclass, field

STRICTER = 10.0**-0.2  # at each start of an episode
STRICTEST = 0.01
MOST_LENIENT = 10.0


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The rule for one budget. The level of a series is the budget's significance level times its factor, which begins at 1.

    Attributes:
        rate: Episodes per row that the budget allows.
        more_lenient: What a quiet row multiplies the factor by.
    """

    rate: float
    more_lenient: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "more_lenient", float(STRICTER**-self.rate))

    def after_start(self, factor: float) -> float:
        """Return the factor after a row that started an episode."""
        return max(factor * STRICTER, STRICTEST)

    def after_quiet(self, factor: float) -> float:
        """Return the factor after a row outside of episodes."""
        return min(factor * self.more_lenient, MOST_LENIENT)
