# SPDX-License-Identifier: Apache-2.0
"""What a text-to-image generator is told: domain, object, quality.

The structure is CG-Aug's (MultiShiftSeg): half of the images show no domain in particular, the
others a place in a weather, by day or by night.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
import re
from typing import NamedTuple

import numpy as np
import yaml

WEATHERS = ('cloudy', 'rainy', 'snowy', 'foggy', 'clear')
_TIMES = {'day': 'by day', 'night': 'at night'}
_PLAIN = 0.5
_DAY = 0.7

_PLAIN_SCENE = 'a photo of a street taken from behind the windscreen of a driving car'
_SCENE = 'a photo of a street in {place}, {weather} weather, {time}, seen from a driving car'
_OBJECT = '{name} on the road ahead'
_QUALITY = (
    'photorealistic',
    'in sharp focus',
    'fine detail',
    'natural colours and light',
    'correct perspective',
    'wide-angle camera',
)

# Text encoders read 77 tokens: what does not fit is lost.
NEGATIVE = (
    'drawing, painting, cartoon, computer graphics, collage, blurred, noisy, overexposed, '
    'washed-out colours, deformed objects, distorted buildings, floating objects, '
    'malformed people, tiling pattern, picture frame, split screen, caption, logo, watermark, '
    'dashboard'
)


class Prompt(NamedTuple):
    """What to paint.

    Attributes:
        text: what is wanted.
        negative: what is not.
        domain: ``weather``, ``time`` and ``place``, of letters, digits and hyphens; empty where
            the prompt names no domain.
    """

    text: str
    negative: str
    domain: dict[str, str]


def draw_prompt(name: str, rng: np.random.Generator) -> Prompt:
    """Draw a domain, and describe it with an object in it.

    Args:
        name: class of the object in words.
        rng: decides the domain.
    """
    domain: dict[str, str] = {}
    scene = _PLAIN_SCENE
    if rng.random() >= _PLAIN:
        weather, place = _one(WEATHERS, rng), _one(_PLACES, rng)
        time = 'day' if rng.random() < _DAY else 'night'
        scene = _SCENE.format(place=place, weather=weather, time=_TIMES[time])
        word = re.sub('[^A-Za-z0-9]+', '-', re.sub('^an? ', '', place))
        domain = {'weather': weather, 'time': time, 'place': word}
    text = ', '.join((scene, _OBJECT.format(name=name), *_QUALITY))
    return Prompt(text, NEGATIVE, domain)


def _one(words: Sequence[str], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]


def _places() -> tuple[str, ...]:
    path = files('multishift_training.augmentation') / 'tables' / 'places.yaml'
    return tuple(yaml.safe_load(path.read_text()))


_PLACES = _places()
