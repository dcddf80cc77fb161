# SPDX-License-Identifier: Apache-2.0
"""Looks: strong changes of colour and styles of other images, drawn apart for each member."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError
import pytest

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Samples, TrainingData
from multishift_training.datasets.presence import check_data

Bytes = NDArray[np.uint8]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two textured grey frames, and a data set of red ones whose looks are taken."""
    rng = np.random.default_rng(0)
    for name, shade, count in (('lums_road', (110, 110, 110), 2), ('red', (220, 40, 40), 3)):
        for i in range(count):
            image = np.array(shade) + rng.integers(-20, 20, (48, 64, 1))
            raw = rng.integers(2, 4, (48, 64))
            for folder, pixels in (('images', image), ('labels', raw)):
                path = tmp_path / name / folder / f'train_{i}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    return tmp_path


RED = {'images': {'kind': 'lums_road', 'root': 'red'}}


def samples_of(root: Path, *, pairs: bool = False, **changes: Any) -> Samples:
    plain = {'kind': 'zoom_crop', 'crop': [48, 64], 'flip': 0, 'color': 0, 'blur': 0}
    content: dict[str, Any] = {'images': {'kind': 'lums_road'}, 'transforms': plain | changes}
    if pairs:
        content['partners'] = {'kind': 'pasted_weather', 'weather': False}
    config = TrainingData.model_validate(content)
    check_data(config, root)
    return Samples(config, root=root, cache=root / 'cache', seed=0)


def test_style_takes_looks_and_leaves_things_and_labels(data: Path) -> None:
    plain = samples_of(data).sample(0, 0)
    styled = samples_of(data, style={**RED, 'beta': [0.05, 0.05], 'probability': 1}).sample(0, 0)
    assert (plain.labels == styled.labels).all()
    # The mean is the lowest frequency: it is the other's; the texture stays.
    means = styled.images[0].mean((0, 1))
    assert np.abs(means - (220, 40, 40)).max() < 6
    first, second = (x.images[0, ..., 1].astype(float).ravel() for x in (plain, styled))
    assert np.corrcoef(first, second)[0, 1] > 0.8


def test_style_has_a_probability(data: Path) -> None:
    plain = samples_of(data)
    samples = samples_of(data, style={**RED, 'beta': [0.05, 0.05], 'probability': 0.5})
    same = [
        np.array_equal(samples.sample(epoch, 0).images, plain.sample(epoch, 0).images)
        for epoch in range(40)
    ]
    assert 10 < sum(same) < 30


@pytest.mark.parametrize(
    'changes',
    [{'style': {**RED, 'probability': 1}}, {'strong_color': 1.0}],
    ids=str,
)
def test_looks_are_drawn_apart_by_the_place_in_the_run_alone(
    data: Path, changes: dict[str, Any]
) -> None:
    samples = samples_of(data, pairs=True, **changes)
    plain = samples_of(data, pairs=True)
    differ = changed = 0
    for epoch in range(8):
        sample = samples.sample(epoch, 1)
        assert np.array_equal(sample.images, samples.sample(epoch, 1).images)
        again = samples_of(data, pairs=True, **changes).sample(epoch, 1)
        assert np.array_equal(sample.images, again.images)
        assert sample.images.dtype == np.uint8
        before = plain.sample(epoch, 1)
        assert np.array_equal(sample.labels, before.labels)
        assert np.array_equal(before.images[0], before.images[1])
        differ += not np.array_equal(sample.images[0], sample.images[1])
        changed += not np.array_equal(sample.images[0], before.images[0])
    assert differ >= 7 and changed >= 7


def test_strong_color_is_stronger_than_color(data: Path) -> None:
    spread = []
    for given in ('color', 'strong_color'):
        change: dict[str, Any] = {given: 1.0}
        samples = samples_of(data, **change)
        spread.append(np.std([samples.sample(epoch, 0).images.mean() for epoch in range(40)]))
    assert spread[1] > 1.3 * spread[0]


def test_looks_do_not_change_what_else_is_drawn(data: Path) -> None:
    plain, styled = samples_of(data), samples_of(data, strong_color=1.0)
    for one, two in zip(*(s.domains[0].streams(0, 0) for s in (plain, styled)), strict=True):
        assert one.random() == two.random()
    # A method's views are drawn from what they were drawn from before there were looks.
    before = np.random.default_rng((0, 3, 1)).spawn(4)[-1].random()
    assert plain.stream_of_views(3, 1).random() == before


def test_style_of_images_that_are_not_there(data: Path) -> None:
    with pytest.raises(MultishiftError, match='gone does not hold images/'):
        samples_of(data, style={'images': {'kind': 'lums_road', 'root': 'gone'}})


def test_beta_is_a_rising_range(data: Path) -> None:
    with pytest.raises(ValidationError, match=r'0\.1 is above 0\.0: give the smaller first'):
        samples_of(data, style={**RED, 'beta': [0.1, 0.0]})
