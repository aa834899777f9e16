"""How a plan spends its steps, which is fixed with their number."""

from dataclasses import dataclass

# Of all steps: what each candidate of a pilot learns before one is chosen, what the choice is
# measured with, and what the winner's temperature is learned with.
PILOT_SHARE = 0.08
SCORING_SHARE = 0.06
CALIBRATION_SHARE = 0.05


@dataclass(frozen=True)
class Schedule:
    """Numbers of steps.

    Attributes:
        candidates: how many networks begin.
        pilot: steps that each of them takes before one is chosen; 0 if there is but one.
        scoring: steps that only count what the candidates get right.
        training: steps that the chosen one goes on for.
        calibration: steps that only compare its confidence with its accuracy.
    """

    candidates: int
    pilot: int
    scoring: int
    training: int
    calibration: int

    @classmethod
    def of(cls, steps: int, candidates: int = 1) -> "Schedule":
        """Return how `steps` steps are spent on so many candidates."""
        calibration = round(CALIBRATION_SHARE * steps)
        several = candidates > 1
        pilot = max(1, round(PILOT_SHARE * steps)) if several else 0
        scoring = max(1, round(SCORING_SHARE * steps)) if several else 0
        training = steps - calibration - candidates * pilot - scoring
        return cls(candidates, pilot, scoring, training, calibration)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.candidates * self.pilot + self.scoring + self.training + self.calibration

    @property
    def full_steps(self) -> float:
        """How many steps at the full learning rate those of the chosen network are worth."""
        return self.pilot + (self.training + 1) / 2

    def share_of_rate(self, step: int) -> float:
        """Return the share of the learning rate at which a network takes a step, from 0.

        It is 1 while it is on trial, and then falls to 0 in a straight line.
        """
        return 1 - max(0, step - self.pilot) / self.training

    def epoch_ends(self, sample_rate: float) -> list[int]:
        """Return the number of its steps after which each epoch of a network is over.

        An epoch ends where the pilot does.
        """
        pilot = _ends(self.pilot, sample_rate)
        return [*pilot, *(self.pilot + end for end in _ends(self.training, sample_rate))]


def _ends(steps: int, sample_rate: float) -> list[int]:
    epochs = max(1, round(steps * sample_rate)) if steps else 0
    return [round(steps * (epoch + 1) / epochs) for epoch in range(epochs)]
