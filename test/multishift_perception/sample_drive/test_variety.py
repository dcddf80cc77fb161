# SPDX-License-Identifier: Apache-2.0
"""What wider ranges change, each by itself."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.street.street import make_street
from multishift_perception.sample_drive.traffic.scene import Item, Scene
from multishift_perception.sample_drive.variety import bend, draw_tints, thin_out, widen_street


def test_another_lens_moves_image_and_labels_alike_and_leaves_no_gap() -> None:
    labels = np.zeros((90, 160), np.uint8)
    labels[20:60, 30:90] = 11
    image = np.repeat(50 + 10 * labels[..., None], 3, axis=2)
    for seed in range(5):
        bent, told = bend(image, labels, np.random.default_rng(seed))
        assert bent.min() >= 50 and set(np.unique(told)) == {0, 11}
        assert 0.002 < (told != labels).mean() < 0.3
        # The picture is smoothed along its edges, labels never are.
        assert (np.abs(bent[..., 0].astype(int) - (50 + 10 * told.astype(int))) > 60).mean() < 0.02


def test_things_are_taken_away_but_unknown_ones() -> None:
    novel = tuple(Item('cabinet', float(s), 1.0) for s in range(5))
    people = tuple(Item('person', float(s), 5.0) for s in range(200))
    scene = Scene(make_street(0, 'train', -32.0, 118.0), (*novel, *people), ())
    kept = [thin_out(scene, novel, np.random.default_rng(seed)).items for seed in range(8)]
    assert all(set(novel) <= set(items) for items in kept)
    counts = {len(items) for items in kept}
    assert len(counts) > 2 and max(counts) == 205


def test_surfaces_get_colours_of_their_own() -> None:
    tints = draw_tints(np.random.default_rng(0))
    assert tints.shape == (256, 3) and tints.dtype == np.float32 and tints.min() > 0.2
    assert np.ptp(tints[:, 0] / tints[:, 1]) > 0.2


def test_streets_of_many_widths() -> None:
    street = make_street(0, 'train', -32.0, 118.0)
    wide = [widen_street(street, np.random.default_rng(seed)) for seed in range(60)]
    widths = [one.half_width for one in wide]
    assert min(widths) < 3.2 and max(widths) > 8.0
    assert {one.markings.middle for one in wide} == {'dashed', 'solid', 'double', 'none'}
    assert {one.paved for one in wide} == {True, False}
