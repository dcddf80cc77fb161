"""Anomaly scores by name: of the network's own head, or post hoc, of any network.

A score is a module that computes it and a line of `SCORES`. Importing this loads no torch:
commands offer the names, and say what does not go together, before that takes its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from multishift_perception.errors import MultishiftError
from multishift_training.scores.score import Score

__all__ = ['SCORES', 'UNCERTAINTY', 'Score', 'check_scores', 'find_score', 'fitted_scores']

# The default: that of the network's own head.
UNCERTAINTY = 'uncertainty'

SCORES = {
    score.name: score
    for score in (
        Score(UNCERTAINTY, 'multishift_training.scores.uncertainty:uncertainty'),
        Score('max_softmax', 'multishift_training.scores.logits:max_softmax'),
        Score('max_logit', 'multishift_training.scores.logits:max_logit'),
        Score('energy', 'multishift_training.scores.logits:energy'),
        Score('entropy', 'multishift_training.scores.logits:entropy'),
        Score('mahalanobis', 'multishift_training.scores.mahalanobis:Mahalanobis', is_fitted=True),
        Score(
            'odin',
            'multishift_training.scores.odin:Odin',
            has_own_passes=True,
            obstacle='it needs gradients',
        ),
    )
}


def find_score(name: str) -> Score:
    """Return the score of a name.

    Raises:
        MultishiftError: there is none.
    """
    if name not in SCORES:
        raise MultishiftError(f'unknown score {name!r}: choose among {", ".join(SCORES)}')
    return SCORES[name]


def check_scores(names: Sequence[str]) -> None:
    """See that scores are known and each is named once.

    Raises:
        MultishiftError: if not.
    """
    for name in names:
        find_score(name)
        if names.count(name) > 1:
            raise MultishiftError(f'score {name} is named twice: name it once')
    if not names:
        raise MultishiftError(f'no score is named: choose among {", ".join(SCORES)}')


def fitted_scores(names: Iterable[str] = SCORES) -> tuple[str, ...]:
    """Return those among the names, or among all, that must be fitted first."""
    return tuple(name for name in names if find_score(name).is_fitted)
