# SPDX-License-Identifier: Apache-2.0
"""The command, on frames whose brightness is the score."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

from click.testing import CliRunner, Result
import cv2
import numpy as np
import pytest

from multishift_perception.bags import BagReader
from multishift_perception.bags.from_images import make_bag
from multishift_perception.cli import main as cli
from multishift_perception.engine import Engine, read_manifest
from multishift_perception.engine.verification import verify
from multishift_perception.errors import MultishiftError
from multishift_perception.images.label_map import own_labels
from multishift_perception.pipeline import Pipeline, anomaly_mask
from multishift_perception.replay import Replay, Settings

FRAMES = 40
# Larger than the engine's 64 x 96: outputs are resized, as a camera's are.
HEIGHT, WIDTH = 96, 144


def street(index: int) -> np.ndarray:
    """Return a frame: smooth shades of grey, none brighter than 0.9."""
    rng = np.random.default_rng(index)
    coarse = rng.beta(2, 5, (12, 18)).astype(np.float32) * 0.9
    grey = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(0, 0.9)
    return np.repeat((255 * grey).astype(np.uint8)[..., None], 3, 2)


@pytest.fixture(scope='module')
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('ordinary')
    for i in range(FRAMES):
        cv2.imwrite(str(folder / f'{i}.png'), street(i))
    return folder


@pytest.fixture(scope='module')
def with_anomalies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same frames, with something white on one in ten."""
    folder = tmp_path_factory.mktemp('anomalies')
    for i in range(FRAMES):
        frame = street(i)
        if i % 10 == 3:
            frame[30:54, 40:76] = 255
        cv2.imwrite(str(folder / f'{i}.png'), frame)
    return folder


def calibrate(*arguments: object) -> Result:
    return CliRunner().invoke(cli.multishift, ['engine', 'calibrate', *map(str, arguments)])


def calibrated(*arguments: object) -> str:
    result = calibrate(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refusal(*arguments: object) -> str:
    result = calibrate(*arguments)
    assert isinstance(result.exception, MultishiftError), result.output
    assert '\n' not in str(result.exception)
    return str(result.exception)


def false_alarms(bundle: Path) -> float:
    """Return the share of the ordinary pixels that the mask has."""

    def masks() -> Iterator[float]:
        with Engine.load(bundle) as engine:
            pipeline = Pipeline(engine)
            for i in range(FRAMES):
                yield float((anomaly_mask(pipeline.run([street(i)])[0].anomaly, 0.5) > 0).mean())

    return float(np.mean(list(masks())))


@pytest.mark.parametrize('share', [0.01, 0.05])
def test_the_mask_has_the_share(
    tiny_bundle: Path, ordinary: Path, tmp_path: Path, share: float
) -> None:
    assert not share / 1.5 <= false_alarms(tiny_bundle) <= share * 1.5
    out = tmp_path / 'new'
    calibrated(tiny_bundle, '--images', ordinary, '--false-alarms', share, '--out', out)
    assert false_alarms(out) == pytest.approx(share, rel=0.15)


def test_anomalies_on_a_tenth_of_the_frames(
    tiny_bundle: Path, with_anomalies: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'new'
    text = calibrated(tiny_bundle, '--images', with_anomalies, '--out', out)
    assert 0.01 / 1.5 <= false_alarms(out) <= 0.01 * 1.5
    assert '4 frames have more than' in text
    assert '3.png' in text


def test_the_look_is_that_of_the_footage(
    tiny_bundle: Path, ordinary: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'new'
    calibrated(tiny_bundle, '--images', ordinary, '--out', out)
    with Engine.load(out) as engine:
        pipeline = Pipeline(engine)

        def shift(image: np.ndarray) -> float:
            return pipeline.run([image])[0].covariate_shift or 0.0

        by_day = [shift(street(i)) for i in range(100, 120)]
        in_fog = [shift(200 + street(i) // 8) for i in range(100, 120)]
    assert np.median(by_day) < 1 < min(in_fog)


def test_the_new_bundle_is_whole(tiny_bundle: Path, ordinary: Path, tmp_path: Path) -> None:
    out, report = tmp_path / 'new', tmp_path / 'report'
    before = (tiny_bundle / 'manifest.yaml').read_bytes()
    calibrated(tiny_bundle, '--images', ordinary, '--out', out, '--report', report)
    assert (tiny_bundle / 'manifest.yaml').read_bytes() == before
    assert [verdict.state for verdict in verify(out)] == ['right', 'right']
    old, new = read_manifest(tiny_bundle), read_manifest(out)
    assert (new.artifacts, new.probe) == (old.artifacts, old.probe)
    assert new.compiled_calibration == old.calibration
    assert new.calibration.rule == 'score that 1% of ordinary pixels reach'
    provenance = new.provenance['calibration']
    assert provenance['footage'] == ordinary.name
    assert (provenance['frames'], provenance['false_alarms']) == (FRAMES, 0.01)
    assert new.look is not None and old.look is not None
    assert new.look.dataset == f'{FRAMES} frames of {ordinary.name}, without labels'
    assert new.look.sha256 != old.look.sha256
    figures = json.loads((report / 'metrics.json').read_text())
    assert figures['after']['ordinary'] == pytest.approx(0.01, rel=0.1)
    assert figures['before']['operating_point'] == old.calibration.operating_point
    assert '<svg' in (report / 'report.html').read_text()


def test_once_more_is_as_the_first_time(tiny_bundle: Path, ordinary: Path, tmp_path: Path) -> None:
    first, second = tmp_path / 'first', tmp_path / 'second'
    calibrated(tiny_bundle, '--images', ordinary, '--false-alarms', 0.2, '--out', first)
    calibrated(first, '--images', ordinary, '--out', second)
    calibrated(tiny_bundle, '--images', ordinary, '--out', first, '--force')
    assert read_manifest(second).calibration == read_manifest(first).calibration
    assert read_manifest(second).compiled_calibration == read_manifest(tiny_bundle).calibration


def test_a_bag_is_what_its_images_are(tiny_bundle: Path, ordinary: Path, tmp_path: Path) -> None:
    bag, by_bag, by_images = tmp_path / 'drive.mcap', tmp_path / 'bag', tmp_path / 'images'
    make_bag(ordinary, bag, topic='/front/image_raw', rate=10, labels=None, label_map=own_labels())
    calibrated(tiny_bundle, '--images', ordinary, '--every', 2, '--out', by_images)
    calibrated(tiny_bundle, '--bag', bag, '--cameras', 'front', '--every', 2, '--out', by_bag)
    found = read_manifest(by_bag)
    assert found.provenance['calibration']['frames'] == FRAMES // 2
    assert found.calibration.knots == read_manifest(by_images).calibration.knots
    with Engine.load(by_bag) as engine, BagReader(bag) as reader:
        assert Replay(reader, engine, Settings()).run().report.overall.frames == FRAMES


class TestRefusals:
    @pytest.mark.parametrize('share', ['0', '0.5', '-1', 'nan'])
    def test_a_share_that_is_none(self, ordinary: Path, tmp_path: Path, share: str) -> None:
        assert 'between 0 and 0.5' in refusal(
            '--images', ordinary, f'--false-alarms={share}', '--out', tmp_path / 'new'
        )

    def test_too_little(self, tiny_bundle: Path, ordinary: Path, tmp_path: Path) -> None:
        arguments = (tiny_bundle, '--images', ordinary, '--out', tmp_path / 'new')
        assert 'give 10 at least' in refusal(*arguments, '--every', 10)
        assert 'give 724 at least' in refusal(*arguments, '--false-alarms', 1e-4)

    def test_unreadable_or_black(
        self, tiny_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        folder, out = tmp_path / 'images', tmp_path / 'new'
        folder.mkdir()
        assert 'no .jpg' in refusal(tiny_bundle, '--images', folder, '--out', out)
        (folder / 'broken.png').write_bytes(b'no image')
        fault = refusal(tiny_bundle, '--images', folder, '--out', out)
        assert 'none of 1 frames can be read; the first: broken.png: ' in fault
        cv2.imwrite(str(folder / 'black.png'), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        fault = refusal(tiny_bundle, '--images', folder, '--out', out)
        assert 'images: each of 1 frames is of one colour' in fault
        for i in range(10):
            cv2.imwrite(str(folder / f'{i}.png'), street(i))
        result = calibrate(tiny_bundle, '--images', folder, '--out', out)
        assert '1 of 12 frames cannot be read and are left out: broken.png: ' in result.stderr
        assert '1 of 11 frames are of one colour' in caplog.text
        assert 'the first is black.png' in caplog.text
        assert read_manifest(out).provenance['calibration']['frames'] == 11

    def test_a_constant_score(self, tiny_bundle: Path, tmp_path: Path) -> None:
        folder, out = tmp_path / 'images', tmp_path / 'new'
        folder.mkdir()
        for i in range(10):
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            image[: HEIGHT // 2] = 30
            cv2.imwrite(str(folder / f'{i}.png'), image)
        fault = refusal(tiny_bundle, '--images', folder, '--out', out)
        assert 'an engine whose score is not constant' in fault
        assert not out.exists()

    def test_what_is_there(self, tiny_bundle: Path, ordinary: Path, tmp_path: Path) -> None:
        out = tmp_path / 'new'
        calibrated(tiny_bundle, '--images', ordinary, '--out', out)
        before = (out / 'manifest.yaml').read_bytes()
        assert 'give --force' in refusal(tiny_bundle, '--images', ordinary, '--out', out)
        assert (out / 'manifest.yaml').read_bytes() == before
        assert 'is read' in refusal(
            tiny_bundle, '--images', ordinary, '--out', tiny_bundle, '--force'
        )
        assert 'lies in the bundle' in refusal(
            tiny_bundle, '--images', ordinary, '--out', tiny_bundle / 'in'
        )
        assert 'lies in the bundle' in refusal(
            tiny_bundle,
            '--images',
            ordinary,
            '--out',
            tmp_path / 'b',
            '--report',
            tmp_path / 'b/r',
        )

    @pytest.mark.parametrize(
        ('arguments', 'words'),
        [((), 'either --images or --bag'), (('--images', 'i', '--topic', '/a'), 'with --bag')],
    )
    def test_what_does_not_go_together(self, arguments: tuple[str, ...], words: str) -> None:
        result = CliRunner().invoke(
            cli.multishift, ['engine', 'calibrate', *arguments, '--out', 'new']
        )
        assert result.exit_code == 2
        assert words in result.output
