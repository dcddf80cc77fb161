# SPDX-License-Identifier: Apache-2.0
"""Anomaly scores by name: of the network's own head, or post hoc, of any network.

A score is a module that computes it and a `Score` that is given to `register`. Importing this
loads no torch: commands offer the names, and say what does not go together, before that takes its
time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from multishift_perception.errors import MultishiftError
from multishift_perception.registry import Registry
from multishift_perception.schema.words import did_you_mean
from multishift_training.scores.score import Score

__all__ = [
    'SCORES',
    'UNCERTAINTY',
    'Score',
    'check_fit',
    'check_scores',
    'find_score',
    'fitted_scores',
    'register',
]

# The default: that of the network's own head.
UNCERTAINTY = 'uncertainty'


def register(score: Score) -> Score:
    """Let commands name a score from now on.

    Returns:
        The score itself.

    Raises:
        TypeError: a part of it is missing or wrong, or its name is taken.
    """
    if not isinstance(score, Score):
        raise TypeError(f'score {score!r} is no Score')
    if fault := score.fault():
        raise TypeError(f'score {score.name}: {fault}')
    SCORES.add(score.name, score)
    return score


SCORES: Registry[Score] = Registry('score', 'multishift.scores', lambda _, found: register(found))
register(Score(UNCERTAINTY, f'{__name__}.uncertainty:uncertainty'))
register(Score('max_softmax', f'{__name__}.logits:max_softmax'))
register(Score('max_logit', f'{__name__}.logits:max_logit'))
register(Score('energy', f'{__name__}.logits:energy'))
register(Score('entropy', f'{__name__}.logits:entropy'))
register(Score('rba', f'{__name__}.rba:rba'))
register(Score('mahalanobis', f'{__name__}.mahalanobis:Mahalanobis', is_fitted=True))
register(Score('neco', f'{__name__}.neco:Neco', is_fitted=True))
register(
    Score(
        'knn',
        f'{__name__}.knn:NearestNeighbours',
        is_fitted=True,
        obstacle='it compares each pixel with thousands of features',
    )
)
register(
    Score('odin', f'{__name__}.odin:Odin', has_own_passes=True, obstacle='it needs gradients')
)


def find_score(name: str) -> Score:
    """Return the score of a name.

    Raises:
        MultishiftError: there is none.
    """
    if name not in SCORES:
        hint = did_you_mean(name, SCORES)
        raise MultishiftError(f'unknown score {name!r}{hint}: choose among {", ".join(SCORES)}')
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


def check_fit(names: Iterable[str], fit: Path | None) -> None:
    """See that scores which must be fitted, and nothing else, come with what to fit them on.

    Args:
        names: of scores.
        fit: file that describes labelled images, if one is given.

    Raises:
        MultishiftError: if not.
    """
    wanted = fitted_scores(names)
    if bool(wanted) != (fit is not None):
        name = ' or '.join(wanted or fitted_scores())
        raise MultishiftError(
            f'--score {name} and --fit DATASET.yaml, which it is fitted on, go together'
        )
