"""A number with the interval that its sample size allows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A value with the 95 % interval [low, high] that its sample size allows."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """{"value", "low", "high"}, plain floats."""
        return {"value": float(self.value), "low": float(self.low), "high": float(self.high)}

    def points(self) -> str:
        """A difference of two accuracies in words, in points with its interval: "+6.4 points (+1.2 to +7.7)"."""
        return f"{100 * self.value:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f})"

    def __str__(self) -> str:
        return f"{self.value:.3f} (95 % CI {self.low:.3f} to {self.high:.3f})"
