# SPDX-License-Identifier: Apache-2.0
"""The demo as users run it: real processes over DDS, on a bag whose results are known."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs rclpy')

from multishift_perception import bags
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.cli.demo import command
from multishift_perception.errors import MultishiftError

# What the tiny engine calls these colours: road, sky, car.
COLORS = ((255, 0, 0), (0, 0, 255), (0, 255, 0))
FRAMES, RATE, SIZE = 12, 4, (96, 144)


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """Three seconds of one colour each, first in sun, then in rain; a white corner is novel."""
    path = tmp_path / 'drive.mcap'
    with bags.BagWriter(path) as bag:
        for i in range(FRAMES):
            stamp = bags.EPOCH_NS + i * 1_000_000_000 // RATE
            for camera in ('front', 'left'):
                write_frame(bag, camera, stamp, i)
    return path


def write_frame(bag: bags.BagWriter, camera: str, stamp: int, index: int) -> None:
    image = np.full((*SIZE, 3), COLORS[index % 3], np.uint8)
    truth = np.full(SIZE, index % 3, np.uint8)
    # The border of the corner is void: the engine's resolution blurs it.
    truth[:56, :80] = VOID
    image[:48, :72] = 255
    truth[:40, :60] = NOVEL
    frame_id = f'{camera}_optical_frame'
    bag.image(f'/{camera}/image_raw', stamp, frame_id, image)
    bag.camera_info(f'/{camera}/camera_info', stamp, frame_id, width=SIZE[1], height=SIZE[0])
    bag.image(f'/{camera}{bags.TRUTH_LABELS}', stamp, frame_id, truth)
    condition = 'sun' if index < FRAMES // 2 else 'rain'
    bag.string(f'/{camera}{bags.TRUTH_CONDITION}', stamp, condition)


def demo(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.slow
@pytest.mark.ros
def test_metrics_latency_and_pictures_of_a_drive(
    drive: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'report'
    result = demo('--bag', drive, '--engine', tiny_bundle, '--out', out, '--keep-bags')
    assert result.exit_code == 0
    found = json.loads((out / 'metrics.json').read_text())
    assert found['conditions'].keys() == {'sun', 'rain'}
    for camera in ('front', 'left'):
        frames = found['frames'][camera]
        lost = sum(frames['dropped'].values())
        # A loaded machine may lose a frame on the way; each is accounted for.
        assert frames['sent'] == FRAMES == frames['received'] + lost
        assert frames['received'] >= FRAMES // 2
    assert found['overall']['segmentation']['miou'] == 1.0
    assert found['overall']['anomaly']['auroc'] == 1.0
    assert 0 < found['latency_ms']['stamp to all outputs']['p50'] < 1000
    page = (out / 'report.html').read_text()
    assert 'data:image/jpeg;base64,' in page
    assert 'frames sent' in result.output and str(out / 'report.html') in result.output
    with bags.BagReader(out / 'results.mcap') as results:
        assert '/multishift_perception/front/anomaly_score' in results.topics
        for _, info, _ in results.messages(['/multishift_perception/left/camera_info']):
            assert (info.width, info.header.frame_id) == (SIZE[1], 'left_optical_frame')


@pytest.mark.slow
@pytest.mark.ros
def test_some_cameras_whose_stamps_no_live_camera_would_set_and_no_bags_left(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    """One camera is late by half a second, one on simulated time, one sets no stamps at all."""
    with bags.BagWriter(tmp_path / 'plain.mcap') as plain:
        for i in range(FRAMES):
            for camera in ('late', 'other', 'simulated', 'zero'):
                write_frame(plain, camera, bags.EPOCH_NS + i * 1_000_000_000 // RATE, i)
    moves = {
        'other': lambda stamp: stamp,
        'late': lambda stamp: stamp - 500_000_000,
        'simulated': lambda stamp: stamp - bags.EPOCH_NS + 12_000_000_000,
        'zero': lambda stamp: 0,
    }
    drive = tmp_path / 'drive.mcap'
    with bags.BagReader(tmp_path / 'plain.mcap') as plain, bags.BagWriter(drive) as bag:
        for topic, kind, cdr, time in plain.raw_messages():
            if kind != bags.STRING:
                cdr = bags.with_stamp(cdr, moves[topic.split('/')[1]](bags.read_stamp(cdr)))
            bag.raw(topic, kind, cdr, time)

    out, chosen = tmp_path / 'report', ('late', 'simulated', 'zero')
    result = demo(
        '--bag',
        drive,
        '--engine',
        tiny_bundle,
        '--out',
        out,
        '--cameras',
        ','.join(chosen),
        '--json',
    )

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found == json.loads((out / 'metrics.json').read_text())
    written = {'frames.csv', 'log', 'metrics.json', 'report.html'}
    assert {path.name for path in out.iterdir()} == written
    assert found['frames'].keys() == set(chosen)
    for camera in chosen:
        frames = found['frames'][camera]
        assert frames['sent'] == FRAMES == frames['received'] + sum(frames['dropped'].values())
        assert frames['received'] >= FRAMES // 2
        played = f'{FRAMES} messages on /{camera}/image_raw were played with the time of the bag'
        assert any(played in warning for warning in found['warnings'])
    # The frames without stamps have equal ones: which label is whose is not known.
    assert found['cameras']['zero']['frames_with_truth'] == 0
    assert found['cameras']['late']['segmentation']['miou'] == 1.0
    assert found['cameras']['simulated']['frames_with_truth'] >= FRAMES // 2
    assert len(found['warnings']) == 4
    assert all(f'warning: {w}' in result.stderr.splitlines() for w in found['warnings'])
    with pytest.raises(MultishiftError, match='holds a report of `multishift demo`: give --force'):
        demo('--bag', drive, '--engine', tiny_bundle, '--out', out)


def test_an_unknown_camera_is_named(drive: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match=r"no camera 'rear'; it has: front, left"):
        out = tmp_path / 'report'
        demo('--bag', drive, '--engine', tiny_bundle, '--out', out, '--cameras', 'rear')


def test_only_an_own_report_is_replaced(drive: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    before = drive.read_bytes()
    other = tmp_path / 'report'
    other.mkdir()
    (other / 'metrics.json').write_text('{"command": "multishift replay"}')
    for out in (drive, drive.parent, tiny_bundle, other):
        with pytest.raises(MultishiftError, match='give another folder with --out'):
            demo('--bag', drive, '--engine', tiny_bundle, '--out', out, '--force')
    assert drive.read_bytes() == before
    assert [path.name for path in other.iterdir()] == ['metrics.json']


def test_no_error_names_a_file_that_is_gone(
    drive: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing a sample drive takes long, and what is in it does not matter here.
    monkeypatch.setattr(
        'multishift_perception.cli.demo.write_sample_bag',
        lambda path, **_: path.write_bytes(drive.read_bytes()),
    )
    with pytest.raises(MultishiftError, match="^the sample drive: no camera 'rear'"):
        demo('--engine', tiny_bundle, '--out', tmp_path / 'o', '--cameras', 'rear')


def test_a_missing_engine_is_told_at_once(drive: Path, tmp_path: Path) -> None:
    with pytest.raises(MultishiftError, match='no_engine'):
        demo('--bag', drive, '--engine', tmp_path / 'no_engine', '--out', tmp_path / 'report')
