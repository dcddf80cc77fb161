# SPDX-License-Identifier: Apache-2.0
"""Replay of a real engine whose outputs are known: red is road, blue is sky, white is novel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
import json
from pathlib import Path
import sys
import tracemalloc

from click.testing import CliRunner
import cv2
import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from multishift_perception import bags
from multishift_perception.bags.truth_join import TruthJoin
from multishift_perception.classes import NOVEL, VOID
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.replay import Replay, Settings
from multishift_perception.report.drive_report import Report, metrics

SIZE = (64, 96)
STEP = 200_000_000
TYPES = get_typestore(Stores.ROS2_JAZZY)


def frame() -> np.ndarray:
    """Sky above road, and a white thing at the left of the road."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:32] = (0, 0, 200)
    image[32:] = (200, 0, 0)
    image[40:60, :30] = 255
    return image


def truth() -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[:32] = 1
    labels[40:60, :30] = NOVEL
    labels[:, 90:] = VOID
    return labels


def write_bag(path: Path, *, labels: np.ndarray | None, truth_first: bool = False) -> Path:
    with bags.BagWriter(path) as bag:
        for i in range(6):
            for camera in ('front', 'left'):
                parts = [lambda t=i, c=camera: bag.image(f'/{c}/image_raw', t * STEP, c, frame())]
                if labels is not None:
                    parts.append(
                        lambda t=i, c=camera: bag.image(
                            f'/{c}/ground_truth/labels', t * STEP, c, labels
                        )
                    )
                for part in reversed(parts) if truth_first else parts:
                    part()
                bag.string(
                    f'/{camera}/ground_truth/condition', i * STEP, 'day' if i < 4 else 'fog'
                )
    return path


@pytest.fixture(scope='module')
def engine(tiny_bundle: Path) -> Engine:
    return Engine.load(tiny_bundle, backend='openvino')


def replay(
    bag: Path, engine: Engine, *, topics: Sequence[str] = (), threshold: float = 0.5
) -> Report:
    with bags.BagReader(bag) as reader:
        return Replay(reader, engine, Settings(threshold)).run(topics).report


@pytest.mark.parametrize('truth_first', [False, True])
def test_metrics_of_a_known_engine(tmp_path: Path, engine: Engine, truth_first: bool) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth(), truth_first=truth_first)

    report = replay(bag, engine)

    assert report.overall.segmentation.miou == 1.0
    assert report.overall.segmentation.iou == (1.0, 1.0, None)
    assert report.overall.anomaly.auroc == 1.0
    assert report.overall.anomaly.fpr95 == 0.0
    assert report.overall.anomaly.novel_pixels == 12 * 600
    operating = report.overall.operating
    assert (operating.tpr, operating.fpr, operating.precision) == (1.0, 0.0, 1.0)
    assert [(s.name, s.frames) for s in report.conditions] == [('day', 8), ('fog', 4)]
    assert [(s.name, s.frames) for s in report.cameras] == [('front', 6), ('left', 6)]
    assert [(c.camera, c.sent, c.received) for c in report.counts] == [
        ('/front/image_raw', 6, 6),
        ('/left/image_raw', 6, 6),
    ]
    assert [len(latency.ms) for latency in report.latencies] == [12] * 4
    shown = [picture.record for picture in report.pictures.objects]
    assert {(r.camera, r.condition) for r in shown} == {
        (camera, condition) for camera in ('front', 'left') for condition in ('day', 'fog')
    }
    assert {r.found for r in shown} == {1.0}
    assert (report.pictures.false_alarms, report.pictures.misses) == ((), ())
    assert [p.record.stamp_ns // STEP for p in report.pictures.film] == [i // 2 for i in range(12)]


def test_every_frame_has_the_shift_that_the_engine_tells(tmp_path: Path, engine: Engine) -> None:
    report = replay(write_bag(tmp_path / 'a.mcap', labels=truth()), engine)
    shifts = report.frames.column('shift')
    assert len(shifts) == 12 and np.isfinite(shifts).all() and (shifts > 0).all()


def test_cameras_share_engine_calls(tmp_path: Path, tiny_bundle_of_two: Path) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    with Engine.load(tiny_bundle_of_two, backend='openvino') as engine:
        report = replay(bag, engine)
    calls = {latency.stage: len(latency.ms) for latency in report.latencies}
    assert calls['engine call'] == 6
    assert report.overall.segmentation.miou == 1.0


def test_the_threshold_moves_the_operating_point_only(tmp_path: Path, engine: Engine) -> None:
    # The mean of (0, 0, 200) is a score of 0.26: a calibrated 0.26 on the way to 0.5.
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    low = replay(bag, engine, threshold=0.1)
    assert low.overall.operating.fpr == 1.0
    assert low.overall.anomaly.auroc == 1.0


def test_without_ground_truth_there_is_still_a_report(tmp_path: Path, engine: Engine) -> None:
    report = replay(write_bag(tmp_path / 'a.mcap', labels=None), engine)
    assert report.overall.frames == 12
    assert report.overall.frames_with_truth == 0
    assert report.overall.segmentation.miou is None
    assert report.overall.anomaly.auroc is None
    assert report.pictures.objects
    assert all(p.truth is None for p in (*report.pictures.film, *report.pictures.objects))


def test_frames_wait_only_so_long_for_sparse_truth(tmp_path: Path, engine: Engine) -> None:
    """Truth for every fourth frame, as in videos with sparse annotation."""
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        for i in range(8):
            bag.image('/c/image_raw', i * STEP, 'c', frame())
            if i % 4 == 0:
                bag.image('/c/ground_truth/labels', i * STEP, 'c', truth())
    report = replay(tmp_path / 'a.mcap', engine)
    assert (report.overall.frames, report.overall.frames_with_truth) == (8, 2)
    assert report.conditions == ()


def test_a_late_condition_message_counts_from_its_time_on(tmp_path: Path, engine: Engine) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.string('/c/ground_truth/condition', 0, 'rain')
        for i in range(1, 6):
            bag.image('/c/image_raw', i * STEP, 'c', frame())
            if i == 3:
                bag.string('/c/ground_truth/condition', i * STEP, 'fog')
    report = replay(tmp_path / 'a.mcap', engine)
    assert {s.name: s.frames for s in report.conditions} == {'rain': 2, 'fog': 3}


def test_compressed_topics_are_replayed_and_broken_frames_counted(
    tmp_path: Path, engine: Engine
) -> None:
    _, png = cv2.imencode('.png', frame()[:, :, ::-1])
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        for i, data in enumerate((png, png[:-30], png)):
            message = TYPES.types[bags.COMPRESSED_IMAGE](
                header=bags.header(i * STEP, 'c'), format='png', data=data
            )
            cdr = bytes(TYPES.serialize_cdr(message, bags.COMPRESSED_IMAGE))
            bag.raw('/c/image_raw/compressed', bags.COMPRESSED_IMAGE, cdr, i * STEP)
            bag.image('/c/ground_truth/labels', i * STEP, 'c', truth())
    report = replay(tmp_path / 'a.mcap', engine)
    (count,) = report.counts
    assert (count.sent, count.received, dict(count.dropped)) == (3, 2, {'broken': 1})
    assert report.overall.segmentation.miou == 1.0
    assert [(r.stamp_ns, r.dropped, r.miou) for r in report.frames] == [
        (0, '', 1.0),
        (STEP, 'broken', None),
        (2 * STEP, '', 1.0),
    ]


def test_users_faults_are_named(tmp_path: Path, engine: Engine) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    with pytest.raises(
        MultishiftError, match=r"'/rear'; the bag has: /front/image_raw, /left/image_raw"
    ):
        replay(bag, engine, topics=['/rear'])
    with pytest.raises(MultishiftError, match=r'/front/ground_truth/labels at 0\.000 s: .* 13;'):
        replay(write_bag(tmp_path / 'b.mcap', labels=np.full(SIZE, 13, np.uint8)), engine)
    with pytest.raises(MultishiftError, match=r'labels at 0\.000 s: .*shape'):
        replay(write_bag(tmp_path / 'c.mcap', labels=np.zeros((32, 48), np.uint8)), engine)
    with bags.BagWriter(tmp_path / 'd.mcap') as writer:
        writer.string('/x', 0, 'no camera')
    with pytest.raises(MultishiftError, match='no image topic'):
        replay(tmp_path / 'd.mcap', engine)
    with bags.BagWriter(tmp_path / 'e.mcap') as writer:
        writer.image('/depth/image', 0, 'd', np.zeros(SIZE, np.float32))
    with pytest.raises(MultishiftError, match=r'no usable frame on /depth/image \(encoding\)'):
        replay(tmp_path / 'e.mcap', engine)


def write_stamped(path: Path, stamps: list[tuple[int, int | None]]) -> Path:
    """Write a frame every 0.2 s, and its label, with these stamps; None for no label."""
    with bags.BagWriter(path) as bag:
        for i, (of_frame, of_label) in enumerate(stamps):
            for topic, stamp, pixels in (
                ('/c/image_raw', of_frame, frame()),
                ('/c/ground_truth/labels', of_label, truth()),
            ):
                if stamp is not None:
                    image = TYPES.types[bags.IMAGE](
                        header=bags.header(stamp, 'c'),
                        height=SIZE[0],
                        width=SIZE[1],
                        encoding='rgb8' if pixels.ndim == 3 else 'mono8',
                        is_bigendian=0,
                        step=pixels.strides[0],
                        data=pixels.reshape(-1),
                    )
                    cdr = bytes(TYPES.serialize_cdr(image, bags.IMAGE))
                    bag.raw(topic, bags.IMAGE, cdr, i * STEP)
    return path


@pytest.mark.parametrize('stamp', [0, 5 * STEP])
def test_frames_with_equal_stamps_are_not_judged(
    tmp_path: Path, engine: Engine, stamp: int
) -> None:
    report = replay(write_stamped(tmp_path / 'a.mcap', [(stamp, stamp)] * 4), engine)
    assert (report.overall.frames, report.overall.frames_with_truth) == (4, 0)
    assert report.overall.segmentation.miou is None
    (warning,) = report.warnings
    assert '4 of 4 frames of /c/image_raw are judged without ground truth' in warning
    assert f'not unique (one is {stamp / 1e9:.3f} s)' in warning and '\n' not in warning


def test_one_frame_that_came_twice_costs_no_other_its_truth(
    tmp_path: Path, engine: Engine
) -> None:
    stamps = [(0, 0), (STEP, STEP), (STEP, None), (3 * STEP, 3 * STEP)]
    report = replay(write_stamped(tmp_path / 'a.mcap', stamps), engine)
    assert (report.overall.frames, report.overall.frames_with_truth) == (4, 2)
    assert report.overall.segmentation.miou == 1.0
    (warning,) = report.warnings
    assert '2 of 4 frames' in warning


def test_labels_that_belong_to_no_frame_are_counted(tmp_path: Path, engine: Engine) -> None:
    stamps = [(0, 0), (STEP, STEP + 1), (2 * STEP, 2 * STEP)]
    report = replay(write_stamped(tmp_path / 'a.mcap', stamps), engine)
    assert report.overall.frames_with_truth == 2
    (warning,) = report.warnings
    assert '1 of 3 labels of /c/ground_truth/labels are not used' in warning


def test_labels_far_from_their_frame_in_the_bag_are_counted(
    tmp_path: Path, engine: Engine
) -> None:
    stamps = [(i * STEP, i * STEP if i < 5 else None) for i in range(6)]
    stamps += [(i * STEP, i * STEP + 5 * STEP) for i in range(6, 8)]  # labels of frames 11 and 12
    stamps += [(i * STEP, None) for i in range(8, 13)]
    report = replay(write_stamped(tmp_path / 'a.mcap', stamps), engine)
    assert report.overall.frames_with_truth == 5
    (warning,) = report.warnings
    assert '2 frames of /c/image_raw are judged without their ground truth' in warning
    assert 'more than 0.5 s away' in warning


def test_labels_of_a_camera_that_has_ended_are_not_kept(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.image('/c/image_raw', 0, 'c', frame())
        for i in range(30):
            bag.image('/c/ground_truth/labels', i * STEP, 'c', truth())
    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        join = TruthJoin(reader, ['/c/image_raw'])
        assert [found.truth is not None for found in join.frames()] == [True]
        (camera,) = join._cameras.values()
        assert len(camera.labels) < 10


def test_labels_of_frames_that_wait_are_kept(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / 'a.mcap') as bag:
        bag.string('/c/ground_truth/condition', 0, 'rain')  # in force for all, and said once
        for i in range(0, 60, 20):
            bag.image('/c/ground_truth/labels', i * STEP, 'c', truth())
            bag.image('/c/image_raw', i * STEP, 'c', frame(), i * STEP + 1)
    with bags.BagReader(tmp_path / 'a.mcap') as reader:
        found = list(TruthJoin(reader, ['/c/image_raw']).frames())
    assert [f.truth is not None for f in found] == [True] * 3


def test_frames_that_the_bag_has_lost_are_counted(tmp_path: Path, engine: Engine) -> None:
    folder = tmp_path / 'bag'
    folder.mkdir()
    write_stamped(folder / 'a.mcap', [(i, None) for i in range(3)])
    topic = {'message_count': 5, 'topic_metadata': {'name': '/c/image_raw', 'type': bags.IMAGE}}
    metadata = {'relative_file_paths': ['a.mcap'], 'topics_with_message_count': [topic]}
    text = json.dumps({'rosbag2_bagfile_information': metadata})
    (folder / 'metadata.yaml').write_text(text)
    report = replay(folder, engine)
    (count,) = report.counts
    assert (count.sent, count.received, dict(count.dropped)) == (5, 3, {'lost in the bag': 2})
    assert 'counts 5 messages on /c/image_raw' in report.warnings[0]


@pytest.mark.slow
def test_warnings_are_shown_once_on_the_command_line_and_in_the_report(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    whole = bag.read_bytes()
    bag.write_bytes(whole[: len(whole) * 3 // 4])
    out = tmp_path / 'report'
    arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(out)]
    result = CliRunner().invoke(
        multishift, ['replay', *arguments, '--json'], catch_exceptions=False
    )
    found = json.loads(result.stdout)
    (warning,) = found['warnings']
    assert 'the recording is cut off; read as far as it goes' in warning
    assert result.stderr.splitlines().count(f'warning: {warning}') == 1
    assert (out / 'report.html').read_text().count(f'Warning: {warning}') == 1
    assert 0 < found['overall']['frames'] < 12
    for count in found['frames'].values():
        assert count['sent'] == count['received'] + sum(count['dropped'].values())


@pytest.mark.slow
def test_replay_command(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    out = tmp_path / 'report'
    arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(out)]
    arguments += ['--topic', '/left/image_raw', '--backend', 'torch']

    result = CliRunner().invoke(
        multishift, ['replay', *arguments, '--json'], catch_exceptions=False
    )
    assert result.exit_code == 0
    printed = json.loads(result.stdout)
    assert printed == json.loads((out / 'metrics.json').read_text())
    assert printed['overall']['segmentation']['miou'] == 1.0
    assert list(printed['cameras']) == ['left']
    assert printed['provenance']['backend'] == 'torch'

    with pytest.raises(MultishiftError, match='give --force to replace it'):
        CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    result = CliRunner().invoke(
        multishift, ['replay', *arguments, '--force'], catch_exceptions=False
    )
    assert 'mIoU' in result.stdout
    assert '100.0 %' in result.stdout
    assert str(out / 'report.html') in result.stdout


def test_replay_command_replaces_no_other_thing(tmp_path: Path, tiny_bundle: Path) -> None:
    bag = write_bag(tmp_path / 'bags/a.mcap', labels=None)
    before = bag.read_bytes()
    other = tmp_path / 'demo-report'
    other.mkdir()
    (other / 'metrics.json').write_text('{"command": "multishift demo"}')
    for folder in (bag, bag.parent, other, tmp_path / 'bags/a.mcap/report'):
        arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(folder), '--force']
        with pytest.raises(MultishiftError, match='give another folder with --out'):
            CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    assert bag.read_bytes() == before
    assert [path.name for path in bag.parent.iterdir()] == ['a.mcap']
    assert [path.name for path in other.iterdir()] == ['metrics.json']


@pytest.mark.slow
def test_replay_on_a_full_disk(
    tmp_path: Path, tiny_bundle: Path, small_files: Callable[[int], AbstractContextManager[None]]
) -> None:
    bag, out = write_bag(tmp_path / 'a.mcap', labels=truth()), tmp_path / 'report'
    arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(out)]
    with small_files(5000), pytest.raises(MultishiftError) as caught:
        CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    assert str(caught.value).startswith(f'{out} cannot be written: no room on the disk')
    assert {path.name for path in out.glob('*')} <= {'metrics.json'}
    CliRunner().invoke(multishift, ['replay', *arguments, '--force'], catch_exceptions=False)
    assert (out / 'report.html').exists()


def test_the_report_of_a_replay_is_repeatable(tmp_path: Path, engine: Engine) -> None:
    bag = write_bag(tmp_path / 'a.mcap', labels=truth())
    reports = []
    for _ in range(2):
        with bags.BagReader(bag) as reader:
            # Of latencies that are measured, no two are alike.
            reports.append(Replay(reader, engine, Settings(latency_ms=50.0)).run().report)
    first, second = map(metrics, reports)
    for key in ('overall', 'conditions', 'cameras', 'frames'):
        assert first[key] == second[key]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bag(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both have more frames than the report has pictures, and than scores wait to be counted of.
    monkeypatch.setattr('multishift_perception.report.drive_counts._PENDING', 1 << 16)
    lengths, peaks = (110, 220), []
    for frames in lengths:
        path = tmp_path / f'{frames}.mcap'
        with bags.BagWriter(path) as bag:
            for i in range(frames):
                bag.image('/front/image_raw', i * STEP, 'front', frame())
                bag.image(f'/front{bags.TRUTH_LABELS}', i * STEP, 'front', truth())
        with bags.BagReader(path) as reader:
            tracemalloc.start()
            replayed = Replay(reader, engine, Settings(latency_ms=50.0)).run()
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert replayed.report.overall.frames == frames
    # A line of the table and a stamp, 1 to 2 kB as memory is handed out; a frame alone has 18.
    assert (peaks[1] - peaks[0]) / (lengths[1] - lengths[0]) < 4000


@pytest.mark.slow
def test_replay_writes_a_recording_for_rerun(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('rerun')
    bag, path = write_bag(tmp_path / 'a.mcap', labels=truth()), tmp_path / 'a.rrd'
    arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(tmp_path / 'report')]
    arguments += ['--rerun', str(path), '--force']
    for _ in range(2):  # its own is replaced
        CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    from rerun.chunk import RrdReader

    rows: Counter[str] = Counter()
    for chunk in RrdReader(path).stream():
        rows[chunk.entity_path] += chunk.num_rows
    for camera in ('front', 'left'):
        for part in ('image', 'labels', 'score', 'mask', 'anomalies', 'truth'):
            assert rows[f'/{camera}/{part}'] == 6

    path.write_bytes(b'RRF2 of somebody else')
    with pytest.raises(MultishiftError, match='only a recording that was made here is replaced'):
        CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    path.unlink()
    page = ['--rerun', str(tmp_path / 'report' / 'report.html')]
    with pytest.raises(MultishiftError, match='must end in .rrd'):
        CliRunner().invoke(multishift, ['replay', *arguments, *page], catch_exceptions=False)
    monkeypatch.setitem(sys.modules, 'rerun', None)
    with pytest.raises(MultishiftError, match=r"run `pip install '\.\[rerun\]'"):
        CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)


def test_recordings_of_other_frames_are_others(tmp_path: Path, engine: Engine) -> None:
    def recording(name: str, image: np.ndarray) -> str:
        with bags.BagWriter(tmp_path / name) as bag:
            bag.image('/front/image_raw', bags.EPOCH_NS, 'front', image, bags.EPOCH_NS)
        with bags.BagReader(tmp_path / name) as reader:
            return Replay(reader, engine, Settings()).run().recording

    first = recording('a.mcap', frame())
    assert recording('renamed.mcap', frame()) == first
    assert recording('b.mcap', 255 - frame()) != first
