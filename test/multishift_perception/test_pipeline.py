# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from multishift_perception import pipeline
from multishift_perception.arrays import Bytes
from multishift_perception.engine import Engine, EngineOutput, Parts, PictureCall
from multishift_perception.images.picture import Picture
from multishift_perception.images.resizing import resize_labels, resize_scores
from multishift_perception.pipeline import (
    FrameOutput,
    Pipeline,
    anomaly_levels,
    anomaly_mask,
    score_unit,
)


@pytest.fixture(scope='module')
def engine(tiny_bundle: Path):
    with Engine.load(tiny_bundle) as engine:
        yield engine


def halves(height: int, width: int) -> np.ndarray:
    """Left half black, right half white."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[:, width // 2 :] = 255
    return frame


@pytest.mark.parametrize('size', [(64, 96), (128, 192), (37, 51), (480, 640)])
def test_outputs_are_aligned_with_the_camera(engine: Engine, size: tuple[int, int]) -> None:
    (output,) = Pipeline(engine).run([halves(*size)])
    assert output.labels.shape == output.anomaly.shape == output.score.shape == size
    assert output.confidence.shape == size and output.confidence.dtype == np.uint8
    assert output.score.dtype == np.float32
    mask = anomaly_mask(output.anomaly, 0.5)
    middle = size[1] // 2
    margin = max(1, size[1] // 48)  # a pixel of the engine is up to this wide
    assert not mask[:, : middle - margin].any()
    assert mask[:, middle + margin :].all()


def test_label_is_that_at_the_centre_of_the_camera_pixel() -> None:
    class Fixed:
        input_shape = (1, 5, 7)
        takes_pictures = False
        look = None

        def call_size(self, waiting: int) -> int:
            return 1

        labels = np.arange(35, dtype=np.uint8).reshape(1, 5, 7)

        def infer(self, frames: Bytes) -> EngineOutput:
            return EngineOutput(self.labels, self.labels.astype(np.float32), self.labels)

        def run_pictures(self, calls: Sequence[PictureCall], batch: int) -> list[Parts]:
            raise NotImplementedError

    frame = np.zeros((12, 16, 3), np.uint8)
    (output,) = Pipeline(Fixed()).run([frame])
    rows, columns = ((np.arange(n) + 0.5) * k // n for n, k in ((12, 5), (16, 7)))
    wanted = rows.astype(int)[:, None] * 7 + columns.astype(int)
    assert output.labels.tolist() == wanted.tolist()


def test_resized_outputs_keep_their_type() -> None:
    labels = np.array([[0, 254]], np.uint8)
    assert resize_labels(labels, (2, 4)).tolist() == [[0, 0, 254, 254]] * 2
    for kind in (np.uint8, np.float32):
        scores = resize_scores(labels.astype(kind), (1, 4))  # type: ignore[type-var]
        assert scores.dtype == kind
        assert scores == pytest.approx(np.array([[0, 63.5, 190.5, 254]]), abs=0.5)


def test_engine_size(engine: Engine) -> None:
    (output,) = Pipeline(engine, output_size='engine').run([halves(480, 640)])
    assert output.labels.shape == (64, 96)


def test_frames_keep_their_order_and_size(engine: Engine) -> None:
    frames = [np.full((20 + i, 30, 3), (255 * (i % 2),) * 3, np.uint8) for i in range(5)]
    outputs = Pipeline(engine).run(frames)
    assert [o.anomaly.shape[0] for o in outputs] == [20, 21, 22, 23, 24]
    assert [int(o.anomaly[0, 0]) for o in outputs] == [0, 255, 0, 255, 0]


def test_incomplete_batch(tiny_bundle_of_two: Path) -> None:
    with Engine.load(tiny_bundle_of_two) as engine:
        outputs = Pipeline(engine).run([halves(64, 96)] * 3)
    assert len(outputs) == 3
    assert np.array_equal(outputs[0].anomaly, outputs[2].anomaly)


def test_no_frame_is_made_up_where_a_smaller_call_fits(tiny_bundle_of_sizes: Path) -> None:
    calls: list[int] = []
    with Engine.load(tiny_bundle_of_sizes) as engine:
        infer = engine.infer
        engine.infer = lambda frames: calls.append(len(frames)) or infer(frames)  # type: ignore[method-assign]
        outputs = Pipeline(engine).run([halves(64, 96)] * 7)
    assert calls == [4, 2, 1]
    assert len(outputs) == 7


def test_unit_scale_has_the_operating_point_in_the_middle() -> None:
    unit = score_unit(np.array([[0, 64, 128, 255]], np.uint8))
    assert unit.dtype == np.float32
    assert unit.tolist() == [[0.0, 0.25, 0.5, 1.0]]


def test_threshold_is_inclusive() -> None:
    anomaly = np.array([[127, 128, 129]], np.uint8)
    assert anomaly_mask(anomaly, 0.5).tolist() == [[0, 255, 255]]
    assert anomaly_mask(anomaly, 0.0).tolist() == [[255, 255, 255]]
    assert anomaly_mask(np.array([[254, 255]], np.uint8), 1.0).tolist() == [[0, 255]]


def test_small_regions_are_dropped() -> None:
    anomaly = np.zeros((10, 10), np.uint8)
    anomaly[0, 0] = anomaly[1, 1] = 255  # diagonal neighbours: one region of two pixels
    anomaly[5:8, 5:8] = 255
    assert anomaly_mask(anomaly, 0.5, min_area=2).sum() == 11 * 255
    assert anomaly_mask(anomaly, 0.5, min_area=3).sum() == 9 * 255
    assert anomaly_mask(anomaly, 0.5, min_area=10).sum() == 0


def test_only_what_is_asked_for_is_enlarged(monkeypatch: pytest.MonkeyPatch) -> None:
    enlarged: list[np.dtype[np.generic]] = []

    def note(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        enlarged.append(scores.dtype)
        return scores

    monkeypatch.setattr(pipeline, 'resize_scores', note)
    small = np.zeros((2, 3), np.uint8)
    output = FrameOutput(small, small, small.astype(np.float32), (4, 6))
    assert output.labels.shape == (4, 6)
    assert output.anomaly is output.anomaly
    assert enlarged == [np.uint8]


@pytest.mark.parametrize('size', [(64, 96), (37, 51), (480, 640)])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
def test_a_picture_gives_what_its_rgb_image_gives(
    engine: Engine, size: tuple[int, int], encoding: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    picture = Picture(pixels, cv2.COLOR_BGR2RGB if encoding == 'bgr8' else None)
    runner = Pipeline(engine)
    (direct,), (converted,) = runner.run([picture]), runner.run([picture.rgb()])
    assert np.array_equal(direct.score, converted.score)
    assert np.array_equal(picture.rgb(out=np.empty_like(pixels)), picture.rgb())


def test_frames_of_an_earlier_call_do_not_stay(engine: Engine) -> None:
    runner = Pipeline(engine)
    black, white = np.zeros((40, 60, 3), np.uint8), np.full((40, 60, 3), 255, np.uint8)
    (kept,) = runner.run([white])
    assert runner.run([black])[0].anomaly.max() == 0
    assert kept.anomaly.min() == 255


def test_scores_become_the_levels_that_they_were_made_of() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(anomaly_levels(score_unit(levels)).ravel(), levels)
