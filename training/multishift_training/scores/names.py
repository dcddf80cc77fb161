"""Names of the anomaly scores, apart from `scores`: commands offer them before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from multishift_perception.errors import MultishiftError

UNCERTAINTY, MAHALANOBIS, ODIN = 'uncertainty', 'mahalanobis', 'odin'
# Those that are read off a prediction, then the others.
NAMES = (UNCERTAINTY, 'max_softmax', 'max_logit', 'energy', 'entropy', MAHALANOBIS, ODIN)


def check_scores(names: Sequence[str]) -> None:
    """See that scores are known and each is named once.

    Raises:
        MultishiftError: if not.
    """
    for name in names:
        if name not in NAMES:
            raise MultishiftError(f'unknown score {name!r}: choose among {", ".join(NAMES)}')
        if names.count(name) > 1:
            raise MultishiftError(f'score {name} is named twice: name it once')
    if not names:
        raise MultishiftError(f'no score is named: choose among {", ".join(NAMES)}')
