# SPDX-License-Identifier: Apache-2.0
"""Novel objects: kinds by split, and their size."""

from itertools import combinations

import numpy as np
import pytest

from multishift_perception.sample_drive import NOVEL_OBJECTS, SPLITS
from multishift_perception.sample_drive.novel.novel_objects import novel_object


def test_splits_share_no_kind() -> None:
    assert set(NOVEL_OBJECTS) == set(SPLITS)
    for one, other in combinations(SPLITS, 2):
        assert not set(NOVEL_OBJECTS[one]) & set(NOVEL_OBJECTS[other])
    assert all(len(kinds) >= 5 for kinds in NOVEL_OBJECTS.values())


@pytest.mark.parametrize('split', SPLITS)
def test_every_kind_stands_on_the_ground_at_a_plausible_size(split):
    for kind in NOVEL_OBJECTS[split]:
        for seed in range(4):
            vertices = novel_object(split, kind, seed).mesh.vertices
            assert vertices[:, 1].min() == pytest.approx(0.0, abs=1e-5)
            assert 0.5 <= np.ptp(vertices, axis=0).max() <= 2.51
