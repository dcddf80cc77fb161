# SPDX-License-Identifier: Apache-2.0
"""Cut-outs of novel objects."""

from typing import Any

import numpy as np
import pytest

from multishift_perception.sample_drive import SPLITS, cutout, cutouts
from multishift_perception.sample_drive.paint.canvas import Canvas
from multishift_perception.sample_drive.traffic.actors import draw_novel


@pytest.mark.parametrize('split', SPLITS)
def test_cutout_is_opaque_inside_and_clear_around(split):
    for seed in range(6):
        picture = cutout(np.random.default_rng(seed), split=split, height=64)
        assert picture.dtype == np.uint8
        assert picture.shape[0] == 64
        assert picture.shape[2] == 4
        opaque = picture[..., 3] == 255
        assert 0.03 < opaque.mean() <= 1.0
        assert picture[..., :3][opaque].mean() > 5


def test_cutout_depends_on_the_generator_alone() -> None:
    one, other = (cutout(np.random.default_rng(4), split='train', height=48) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'test'.*train.*val.*demo"):
        cutout(np.random.default_rng(0), split='test', height=48)
    with pytest.raises(ValueError, match='height is 0'):
        cutout(np.random.default_rng(0), split='demo', height=0)


def test_an_object_that_covers_no_pixel_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = draw_novel
    kinds: list[str] = []

    def unseen_at_first(canvas: Canvas, split: str, kind: str, *more: Any) -> None:
        kinds.append(kind)
        if len(kinds) > 1:
            drawn(canvas, split, kind, *more)

    monkeypatch.setattr(cutouts, 'draw_novel', unseen_at_first)
    picture = cutout(np.random.default_rng(0), split='train', height=24)
    assert len(kinds) == 2
    assert picture.shape[0] == 24 and picture[..., 3].any()
