# SPDX-License-Identifier: Apache-2.0
"""Outputs as a bag: the node's topics and types, each with the header of its frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner
import cv2
from mcap.reader import make_reader
import numpy as np
import pytest

from multishift_perception import bags
from multishift_perception.bags import BagReader
from multishift_perception.classes import NOVEL
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.outputs import NODE, Output
from multishift_perception.pipeline import Pipeline, anomaly_mask
from multishift_perception.replay import Replay, Replayed, Settings
from multishift_perception.shift import ShiftMeter, status_of

SIZE = (64, 96)
# A stamp is not the bag time: recordings have both.
DELAY = 7_000_000
TIMES = [bags.EPOCH_NS + i * 200_000_000 for i in range(3)]


RECORDED = (
    Output.LABELS,
    Output.ANOMALY_SCORE,
    Output.ANOMALY_MASK,
    Output.CONFIDENCE,
    Output.OVERLAY_JPEG,
    Output.DOMAIN_SHIFT,
    Output.SHIFTS,
    Output.CALIBRATION,
    Output.CLASS_NAMES,
)


def frame(number: int) -> np.ndarray:
    image = np.zeros((*SIZE, 3), np.uint8)
    image[:32], image[32:] = (0, 0, 200), (200, 0, 0)
    image[40:56, 10 * number : 20 + 10 * number] = 255
    return image


def truth(number: int) -> np.ndarray:
    labels = np.zeros(SIZE, np.uint8)
    labels[:32] = 1
    labels[40:56, 10 * number : 20 + 10 * number] = NOVEL
    return labels


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('bag') / 'a.mcap'
    with bags.BagWriter(path) as writer:
        for i, time in enumerate(TIMES):
            for camera in ('front', 'rig/left'):
                stamp, name = time - DELAY, f'{camera}_frame'
                writer.image(f'/{camera}/image_raw', stamp, name, frame(i), time)
                writer.image(f'/{camera}{bags.TRUTH_LABELS}', stamp, name, truth(i), time)
            writer.camera_info(
                '/front/camera_info',
                time,
                'front_frame',
                width=SIZE[1],
                height=SIZE[0],
                focal=(50.0, 60.0),
                centre=(48.0, 32.0),
            )
    return path


@pytest.fixture(scope='module')
def engine(tiny_bundle: Path) -> Engine:
    return Engine.load(tiny_bundle, backend='openvino')


def replay(bag: Path, engine: Engine, *, record: Path | None = None, **settings: Any) -> Replayed:
    with BagReader(bag) as reader:
        return Replay(reader, engine, Settings(**settings), record=record).run()


def test_outputs_are_those_of_the_node(bag: Path, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / 'out.mcap'
    replay(bag, engine, record=out, threshold=0.6)
    front = {o: o.topic_of('front', NODE) for o in Output}
    with BagReader(out) as reader:
        assert reader.topics == {
            **{front[o]: o.kind for o in RECORDED},
            **{
                o.topic_of('rig_left', NODE): o.kind
                for o in RECORDED
                if o is not Output.CALIBRATION
            },
        }
        found: dict[str, list[tuple[Any, int]]] = {topic: [] for topic in reader.topics}
        for topic, message, time in reader.messages():
            found[topic].append((message, time))
    for output in (Output.LABELS, Output.ANOMALY_SCORE, Output.ANOMALY_MASK, Output.OVERLAY_JPEG):
        for i, (message, time) in enumerate(found[front[output]]):
            assert (time, bags.stamp_ns(message)) == (TIMES[i], TIMES[i] - DELAY)
            assert message.header.frame_id == 'front_frame'
            assert getattr(message, 'encoding', '') == output.encoding
    first = {output: found[topic][0][0] for output, topic in front.items() if topic in found}
    labels = bags.mono8(first[Output.LABELS], '')
    assert (labels[truth(0) != NOVEL] == truth(0)[truth(0) != NOVEL]).all()
    mask = bags.mono8(first[Output.ANOMALY_MASK], '')
    assert ((mask != 0) == (truth(0) == NOVEL)).all()
    confidence = bags.mono8(first[Output.CONFIDENCE], '')
    [said] = Pipeline(engine).run([frame(0)])
    np.testing.assert_array_equal(confidence, said.confidence)
    [shift] = first[Output.SHIFTS].status
    assert (shift.name, shift.level) == ('front: shift', 0)
    values = {pair.key: float(pair.value) for pair in shift.values}
    assert values.keys() == {'covariate shift', 'semantic shift'}
    assert values['covariate shift'] == pytest.approx(first[Output.DOMAIN_SHIFT].data, abs=1e-4)
    assert 0 < values['semantic shift'] < 1
    score = np.frombuffer(first[Output.ANOMALY_SCORE].data, np.float32).reshape(SIZE)
    assert ((score >= 0.6) == (mask != 0)).all()
    drawn = cv2.imdecode(first[Output.OVERLAY_JPEG].data, cv2.IMREAD_COLOR)
    assert drawn.shape == (*SIZE, 3) and np.ptp(drawn) > 0
    info = first[Output.CALIBRATION]
    assert (info.header.frame_id, info.k[0], info.k[4]) == ('front_frame', 50.0, 60.0)
    assert len(found[front[Output.CALIBRATION]]) == 3
    [(names, _)] = found[front[Output.CLASS_NAMES]]
    assert [c.class_name for c in names.class_map] == ['road', 'sky', 'car']
    assert names.threshold == pytest.approx(0.6)


def test_foxglove_finds_the_definitions_of_all_types(
    bag: Path, engine: Engine, tmp_path: Path
) -> None:
    out = tmp_path / 'out.mcap'
    replay(bag, engine, record=out)
    with out.open('rb') as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    schemas = {schema.name: schema for schema in summary.schemas.values()}
    assert schemas.keys() == {o.kind for o in RECORDED}
    assert all(s.encoding == 'ros2msg' and s.data for s in schemas.values())
    latched = [c for c in summary.channels.values() if c.topic.endswith('label_info')]
    assert len(latched) == 2 and all('transient' in str(c.metadata) for c in latched)


def test_what_the_node_would_drop_is_dropped(bag: Path, engine: Engine, tmp_path: Path) -> None:
    out, least = tmp_path / 'out.mcap', 16 * 20 + 1  # one pixel more than the object has
    shares, masks = {}, {}
    for min_area in (least - 1, least):
        replayed = replay(bag, engine, record=out, threshold=0.6, min_area=min_area)
        with BagReader(out) as reader:
            topics = [Output.SHIFTS.topic_of('front', NODE)]
            said = [message.status[0] for _, message, _ in reader.messages(topics)]
            topics = [Output.ANOMALY_MASK.topic_of('front', NODE)]
            masks[min_area] = [bags.mono8(m, '') for _, m, _ in reader.messages(topics)]
        shares[min_area] = [{pair.key: pair.value for pair in s.values} for s in said]
        assert (replayed.report.overall.operating.tpr == 0) == (min_area == least)
    outputs = [Pipeline(engine).run([frame(i)])[0] for i in range(len(TIMES))]
    # As the node's publishers ask for both.
    meter = ShiftMeter(engine.classes)
    for min_area in (least - 1, least):
        expected = [status_of(meter.measure(o, 0.6, min_area)).values for o in outputs]
        assert shares[min_area] == expected
        for output, mask in zip(outputs, masks[min_area], strict=True):
            np.testing.assert_array_equal(mask, anomaly_mask(output.anomaly, 0.6, min_area))
    assert shares[least] != shares[least - 1]
    assert 'of 321 pixels and more' in replayed.report.provenance['anomalous regions']


def test_a_recording_is_whole_or_absent(bag: Path, engine: Engine, tmp_path: Path) -> None:
    out = tmp_path / 'out.mcap'
    cut = tmp_path / 'cut.mcap'
    with bags.BagWriter(cut) as writer:
        writer.image('/c/image_raw', 1, 'c', frame(0))
        writer.image(f'/c{bags.TRUTH_LABELS}', 1, 'c', np.full(SIZE, 99, np.uint8))
    with pytest.raises(MultishiftError, match='must use the same classes'):
        replay(cut, engine, record=out)
    assert [path.name for path in tmp_path.iterdir()] == ['cut.mcap']


def test_what_exists_is_not_replaced_unasked(bag: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / 'other.mcap'
    other.write_bytes(bag.read_bytes()[:-40])
    for record, words in (
        (bag, 'is what is read'),
        (other, 'only a bag that was made here is replaced'),
        (tmp_path / 'out.bag', r'must end in \.mcap'),
    ):
        arguments = [str(bag), '--engine', str(tiny_bundle), '--out', str(tmp_path / 'report')]
        arguments += ['--force', '--record', str(record)]
        with pytest.raises(MultishiftError, match=words):
            CliRunner().invoke(multishift, ['replay', *arguments], catch_exceptions=False)
    assert other.read_bytes() == bag.read_bytes()[:-40]


def test_without_latency_the_stream_is_judged_as_it_is(bag: Path, engine: Engine) -> None:
    at_once = replay(bag, engine, latency_ms=0.0).report.overall
    assert at_once.streaming.miou == at_once.segmentation.miou
    assert at_once.streaming.operating == at_once.operating
    late = replay(bag, engine, latency_ms=150.0).report.overall
    assert late.streaming.too_early == 2 and late.streaming.age_ms == pytest.approx(200)
    assert late.streaming.operating.tpr < at_once.operating.tpr


def test_distances_are_of_the_cameras_whose_calibration_there_is(
    bag: Path, engine: Engine
) -> None:
    replayed = replay(bag, engine, camera_height=1.5)
    by_camera = {s.name: s.objects for s in replayed.report.cameras}
    # The object's lower edge is 55.5 - 32 pixels below the horizon.
    assert by_camera['front'].distance_median == pytest.approx(60 * 1.5 / 23.5, abs=1e-3)
    assert by_camera['front'].distances == by_camera['front'].found == 1
    assert by_camera['rig/left'].distance_median is None
    [warning] = replayed.report.warnings
    assert 'no distances of camera rig/left' in warning
    assert replay(bag, engine).report.overall.objects.distances == 0
