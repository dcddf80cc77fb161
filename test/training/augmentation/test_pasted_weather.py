# SPDX-License-Identifier: Apache-2.0
"""The object's own picture, and weather over all of it."""

from __future__ import annotations

import numpy as np
import pytest

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.parts import Composition, NovelObject, Scene
from multishift_training.augmentation.pasted_weather import PastedWeather, _pasted


def composed(*, pictured: bool = True) -> Composition:
    """Return a grey scene with a triangle that is red above and blue below."""
    image = np.full((64, 96, 3), 120, np.uint8)
    labels = np.zeros((64, 96), np.uint8)
    shape = np.tri(20, 20, dtype=bool)
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[:10, :, 0] = 255
    picture[10:, :, 2] = 255
    mask = np.zeros(labels.shape, bool)
    mask[40:60, 30:50] = shape
    marked = labels.copy()
    marked[mask] = NOVEL
    thing = NovelObject('thing', 'file.png', shape, picture if pictured else None, None)
    return Composition(Scene('scene', image, labels), thing, marked, mask)


def test_the_picture_is_pasted_as_it_is() -> None:
    composition = composed()
    image = _pasted(composition)
    assert (image[~composition.mask] == 120).all()
    assert image[45, 31].tolist() == [255, 0, 0]
    assert image[55, 31].tolist() == [0, 0, 255]
    assert (composition.scene.image == 120).all()


def test_the_same_seed_gives_the_same_image_and_others_other_weather() -> None:
    composition = composed()
    seeds = [np.random.SeedSequence(n) for n in range(10)]
    images = [result.image for result in PastedWeather().generate([composition] * 10, seeds)]
    alone = PastedWeather().generate([composition], [np.random.SeedSequence(7)])[0]
    np.testing.assert_array_equal(images[7], alone.image)
    assert alone.image.shape == composition.scene.image.shape
    assert len({image.tobytes() for image in images}) == 10
    assert np.std([image.mean() for image in images]) > 5


def test_the_object_is_still_there_after_the_weather() -> None:
    composition = composed()
    seeds = [np.random.SeedSequence(n) for n in range(12)]
    for result in PastedWeather().generate([composition] * 12, seeds):
        image = result.image.astype(float)
        inside, outside = image[composition.mask], image[~composition.mask]
        assert np.abs(inside.mean(axis=0) - outside.mean(axis=0)).max() > 5


def test_an_object_without_picture_is_named_with_the_mend() -> None:
    with pytest.raises(MultishiftError, match=r'objects: file\.png .* give objects') as caught:
        PastedWeather().generate([composed(pictured=False)], [np.random.SeedSequence(0)])
    assert '\n' not in str(caught.value)
