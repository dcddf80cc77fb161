# SPDX-License-Identifier: Apache-2.0
"""Classes: their names and indices."""

from multishift_perception.classes import CITYSCAPES, TrainId


def test_train_ids_are_named_and_ordered_as_the_classes_are() -> None:
    assert [id.name.lower().replace('_', ' ') for id in TrainId] == [c.name for c in CITYSCAPES]
    assert [id.value for id in TrainId] == list(range(len(CITYSCAPES)))
