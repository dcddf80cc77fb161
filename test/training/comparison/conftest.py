# SPDX-License-Identifier: Apache-2.0
"""A small experiment that tests vary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Content = dict[str, Any]


@pytest.fixture
def described(
    content: Callable[..., Content], stages: dict[str, Content]
) -> Callable[..., Content]:
    """Return a function that gives an experiment of two seeds and seconds, with changes."""
    frames = {'kind': 'sample_drive', 'size': [64, 96], 'split': 'train', 'frames': 2, 'seed': 1}
    run = content(
        data={
            'images': frames,
            'partners': {'kind': 'pasted_weather'},
            'transforms': {'kind': 'zoom_crop', 'crop': [64, 96]},
        },
        val={'images': {**frames, 'split': 'val', 'frames': 1}},
        engine_size=[64, 96],
        batch_size=2,
        monitor='miou',
    )
    first = {**stages['uncertainty'], 'epochs': 1}
    closed = {**stages['closed_world'], 'epochs': 1}
    alone = {key: value for key, value in run['data'].items() if key != 'partners'}

    def make(**changes: object) -> Content:
        return {
            'seeds': 2,
            'baseline': 'stage 1',
            'tests': {
                'day': {'images': {**frames, 'split': 'demo', 'frames': 1}},
                'night': {
                    'images': {**frames, 'split': 'demo', 'frames': 1, 'conditions': ['night']},
                    'size': [48, 64],
                },
            },
            'means': [['day', 'night']],
            'closed_world': {**run, 'data': alone, 'stages': [closed], 'scores': ['energy']},
            'ways': {
                'stage 1': {**run, 'stages': [first]},
                'both stages': {
                    **run,
                    'starts_from': 'stage 1',
                    'stages': [stages['features']],
                    'scores': ['uncertainty', 'energy'],
                },
            },
            **changes,
        }

    return make
