# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from multishift_perception.errors import MultishiftError
from multishift_training.datasets.batch import Sample, collate

IMAGES = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
LABELS = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)


def test_members_first_then_samples() -> None:
    other = Sample(IMAGES + 1, LABELS + 1)
    batch = collate([Sample(IMAGES, LABELS), other])
    expected = [IMAGES[0], other.images[0], IMAGES[1], other.images[1]]
    assert np.array_equal(batch.images.numpy(), np.stack(expected))
    assert batch.members == 2


def test_mirrored_views() -> None:
    batch = collate([Sample(IMAGES[:, :, ::-1], LABELS[:, :, ::-1], {'row': np.arange(2)[::-1]})])
    assert np.array_equal(batch.images.numpy(), IMAGES[:, :, ::-1])
    assert np.array_equal(batch.labels.numpy(), LABELS[:, :, ::-1])
    assert batch.extras['row'].tolist() == [1, 0]


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        # The network would take it for a black image.
        (Sample((IMAGES / 255).astype(np.float32), LABELS), r'float32 \[2, 4, 6, 3\], expected'),
        (Sample(IMAGES.transpose(0, 3, 1, 2), LABELS), r'uint8 \[2, 3, 4, 6\], expected'),
        (Sample(IMAGES[0], LABELS[0]), r'uint8 \[4, 6, 3\], expected'),
        (Sample(IMAGES[:0], LABELS[:0]), r'uint8 \[0, 4, 6, 3\], expected'),
        (Sample(IMAGES, LABELS[:1]), r'\[2, 4, 6, 3\] are uint8 \[1, 4, 6\], expected'),
        (Sample(IMAGES, LABELS.astype(np.int64)), r'are int64 \[2, 4, 6\], expected uint8'),
        (Sample(IMAGES[:1], LABELS[:1]), r'are uint8 \[2, 4, 6, 3\], of another \[1, 4, 6, 3\]'),
        ((IMAGES, LABELS), 'a sample is a tuple, no Sample'),
        (None, 'a sample is a NoneType, no Sample'),
    ],
)
def test_sample_of_another_shape(sample: Any, message: str) -> None:
    with pytest.raises(MultishiftError, match=f'{message}.*: mend the `views` of the method$'):
        collate([Sample(IMAGES, LABELS), sample])
