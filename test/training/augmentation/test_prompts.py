# SPDX-License-Identifier: Apache-2.0
"""What a text-to-image generator is told."""

from __future__ import annotations

from collections import Counter
import re

import numpy as np

from multishift_training.augmentation.prompts import draw_prompt

DRAWS = 2000


def test_the_object_and_its_domain_are_named() -> None:
    for seed in range(200):
        prompt = draw_prompt('trash bag', np.random.default_rng(seed))
        assert 'trash bag on the road' in prompt.text
        assert prompt.negative and not set(prompt.negative.split(', ')) & set(
            prompt.text.split(', ')
        )
        for word in prompt.domain.values():
            assert re.fullmatch('[A-Za-z0-9-]+', word)
        if prompt.domain:
            assert list(prompt.domain) == ['weather', 'time', 'place']
            assert f'{prompt.domain["weather"]} weather' in prompt.text
            assert prompt.domain['time'] in prompt.text
            assert prompt.domain['place'].replace('-', ' ') in prompt.text


def test_domains_are_drawn_as_published() -> None:
    rng = np.random.default_rng(0)
    domains = [draw_prompt('box', rng).domain for _ in range(DRAWS)]
    named = [domain for domain in domains if domain]
    assert abs(len(named) / DRAWS - 0.5) < 0.04
    times = Counter(domain['time'] for domain in named)
    assert set(times) == {'day', 'night'} and abs(times['day'] / len(named) - 0.7) < 0.05
    weathers = Counter(domain['weather'] for domain in named)
    assert set(weathers) == {'cloudy', 'rainy', 'snowy', 'foggy', 'clear'}
    assert max(weathers.values()) < 1.5 * min(weathers.values())
    assert len({domain['place'] for domain in named}) == 96


def test_a_seed_draws_one_prompt() -> None:
    assert draw_prompt('box', np.random.default_rng(5)) == draw_prompt(
        'box', np.random.default_rng(5)
    )


def test_text_encoders_read_all_of_it() -> None:
    # 77 tokens, two of which are marks; about four of three words and commas.
    for seed in range(100):
        prompt = draw_prompt('chest of drawers', np.random.default_rng(seed))
        for text in (prompt.text, prompt.negative):
            assert len(re.findall(r'\w+|[^\w\s]', text)) * 4 / 3 < 77
