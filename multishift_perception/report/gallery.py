# SPDX-License-Identifier: Apache-2.0
"""Chooses which frames a report shows, while the frames stream by, within a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
import math

from multishift_perception.classes import SemanticClass, color_table
from multishift_perception.pipeline import Pixels
from multishift_perception.report.film import Film
from multishift_perception.report.frame_table import FrameRecord
from multishift_perception.report.pictures import (
    Encoder,
    Picture,
    draw_picture,
    fit_pictures,
)
from multishift_perception.report.scenes import STRETCH, WorstScenes

# Bytes of all JPEGs. Base64 makes 27 MB of them, charts add less than 1: a page stays below 30.
BUDGET = 20_000_000
# Of it, for the frames of the slider; the rest is for scenes, which are looked at enlarged.
_FILM = 0.6
_FILM_FRAMES = 100
_SCENE_WIDTH = 960
# Lists of scenes, of which each has the limit at most.
_LISTS = 3
# Some groups have fewer scenes than their share: so many times more are kept of the others.
_SPARE = 3
# Conditions are whatever a bag says: pictures of one each, but not of any number.
_MOST_GROUPS = 40


@dataclass(frozen=True)
class Pictures:
    """What a report shows.

    Attributes:
        film: frames at even distances over the drive.
        objects: the largest novel objects of every camera and condition, or without ground truth
            the largest reported anomalies, in order of time.
        false_alarms: scenes where the mask covers most that is known, the worst first.
        misses: scenes where it leaves out most that is novel, the worst first.
    """

    film: tuple[Picture, ...] = ()
    objects: tuple[Picture, ...] = ()
    false_alarms: tuple[Picture, ...] = ()
    misses: tuple[Picture, ...] = ()


class Gallery:
    """Keeps pictures of a drive: evenly spread ones, and the scenes that matter.

    Memory holds JPEGs of the candidates only, and does not grow with the drive.
    """

    def __init__(
        self,
        classes: Sequence[SemanticClass],
        *,
        limit: int = 12,
        frames: int | None = None,
        budget: int = BUDGET,
    ) -> None:
        """Start empty.

        Args:
            classes: known classes, for their colours.
            limit: scenes of each kind at most; of the largest objects one for every camera and
                condition if those are more.
            frames: how many frames the drive is thought to have; None where nobody knows.
            budget: bytes that all pictures have at most.
        """
        self._colors = color_table(classes)
        self._limit = limit
        self._film_budget = int(_FILM * budget)
        self._scene_budget = budget - self._film_budget
        self._film = Film(_FILM_FRAMES, frames=frames)
        self._film_encoder = Encoder(self._film_budget // self._film.expected)
        self._scene_encoder = Encoder(self._scene_budget // (_LISTS * limit))
        self._objects: dict[tuple[str, str], WorstScenes] = {}
        self._false_alarms = WorstScenes(limit)
        self._misses = WorstScenes(limit)
        self._stretch = 0

    def offer(self, record: FrameRecord, pixels: Pixels) -> None:
        """Consider a frame; it is drawn only if it is kept."""
        stretch = int(record.time // STRETCH)
        if stretch != self._stretch:
            for scenes in (*self._objects.values(), self._false_alarms, self._misses):
                scenes.draw()
            self._stretch = stretch
        draw = partial(draw_picture, record, pixels, self._colors)
        self._film.offer(record, partial(draw, self._film_encoder))
        # Once for all lists that keep it.
        scene = cache(partial(draw, self._scene_encoder, width=_SCENE_WIDTH))
        truth = record.truth
        self._offer_object(
            (record.anomalous or 0.0) if truth is None else truth.novel, record, scene
        )
        if truth is not None:
            self._false_alarms.offer(truth.false, record, scene)
            self._misses.offer(truth.novel - truth.found, record, scene)

    def _offer_object(
        self, worth: float, record: FrameRecord, draw: Callable[[], Picture]
    ) -> None:
        group = (record.camera, record.condition)
        if group not in self._objects:
            if len(self._objects) >= _MOST_GROUPS:
                return
            self._objects[group] = WorstScenes(self._limit)
            for scenes in self._objects.values():
                scenes.limit(math.ceil(_SPARE * self._limit / len(self._objects)))
        self._objects[group].offer(worth, record, draw)

    def pictures(self) -> Pictures:
        """Return the pictures; those that have too many bytes together are made coarser."""
        scenes = (
            self._largest_objects(),
            self._false_alarms.chosen(),
            self._misses.chosen(),
        )
        rows = sum(map(len, scenes))
        objects, false_alarms, misses = (
            fit_pictures(kind, self._scene_budget * len(kind) // max(1, rows)) for kind in scenes
        )
        film = fit_pictures(self._film.pictures(), self._film_budget)
        return Pictures(film, objects, false_alarms, misses)

    def _largest_objects(self) -> list[Picture]:
        """Return the same number of every group, if possible."""
        groups = [scenes.chosen() for scenes in self._objects.values()]
        chosen: list[Picture] = []
        for rank in range(self._limit):
            row = [scenes[rank] for scenes in groups if len(scenes) > rank]
            if chosen and len(chosen) + len(row) > self._limit:
                break
            chosen += row
        return sorted(chosen, key=lambda picture: (picture.record.time, picture.record.camera))
