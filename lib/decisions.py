"""What becomes of an answer: given, withheld for want of confidence, or withheld as of no known class."""

from dataclasses import asdict, dataclass
from typing import Literal

Decision = Literal["accepted", "unsure", "unknown"]


@dataclass(frozen=True)
class Thresholds:
    """Chosen on the validation part by 04, kept in metrics.json under "decision".

    Parameters
    ----------
    abstain_threshold : float or None
        Least probability of an accepted answer; None where no probability was good enough.
    target_accuracy : float
        Wanted of accepted answers when `abstain_threshold` was chosen.
    conformal_threshold : float
        Least probability with which a class belongs to an image's set.
    conformal_coverage : float
        Share of sets that hold the true class, as promised.
    novelty_threshold : float or None
        Largest distance, 1 - cosine, to the tenth nearest training image of an image of a known class; None in
        versions evaluated before there was one, which tell no image as unknown.
    """

    abstain_threshold: float | None
    target_accuracy: float
    conformal_threshold: float
    conformal_coverage: float
    novelty_threshold: float | None = None

    @classmethod
    def from_metrics(cls, metrics: dict) -> "Thresholds | None":
        """Those in a version's metrics.json; None before it has been evaluated."""
        return cls(**metrics["decision"]) if "decision" in metrics else None

    def to_json(self) -> dict[str, float | None]:
        """Plain values, as metrics.json holds them."""
        return asdict(self)

    def decide(self, probability: float, distance: float | None) -> Decision:
        """Judge an answer by its probability and its image's distance from what was trained on, if that is known.

        Unknown goes first: of an image of no known class the probabilities say nothing.
        """
        if self.novelty_threshold is not None and distance is not None and distance > self.novelty_threshold:
            return "unknown"
        sure = self.abstain_threshold is not None and probability >= self.abstain_threshold
        return "accepted" if sure else "unsure"
