# SPDX-License-Identifier: Apache-2.0
"""A real engine whose outputs are known: red is road, blue is sky, white is novel."""

from __future__ import annotations

from collections.abc import Iterator
import errno
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
from pathlib import Path
import re
import signal
import threading
from typing import Any

from click.testing import CliRunner, Result
import cv2
import numpy as np
from PIL import ExifTags, Image
import pytest

import multishift_perception
from multishift_perception import bags
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.files import claimed
from multishift_perception.footage import files_footage, images_footage
from multishift_perception.overlay import OUTLINE_COLOR
from multishift_perception.prediction import Predictor, predict
from multishift_perception.process.signals import Stopped

# Left, top, width and height of what is white.
BOX = [4, 40, 30, 20]


def frame(*, novel: bool = True) -> np.ndarray:
    """Sky above road, and a white thing on the road."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32] = (0, 0, 200)
    image[32:] = (200, 0, 0)
    if novel:
        left, top, width, height = BOX
        image[top : top + height, left : left + width] = 255
    return image


def write_image(path: Path, **options: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), frame(**options)[..., ::-1])
    return path


def write_video(path: Path, count: int = 5, rate: float = 10) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), rate, (96, 64))
    for i in range(count):
        writer.write(np.ascontiguousarray(frame(novel=i > 1)[..., ::-1]))
    writer.release()
    return path


@pytest.fixture
def call(tiny_bundle: Path) -> Any:
    def run(*arguments: object, code: int = 0) -> Result:
        words = ['predict', *map(str, arguments), '--engine', str(tiny_bundle)]
        result = CliRunner().invoke(multishift, [*words, '--backend', 'openvino'])
        if code == 0 and result.exception:
            raise result.exception
        assert result.exit_code == code
        return result

    return run


def regions(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / 'regions.jsonl').read_text().splitlines()]


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()}


def test_a_photo_becomes_labels_score_mask_and_regions(tmp_path: Path, call: Any) -> None:
    photo, out = write_image(tmp_path / 'photo.png'), tmp_path / 'out'
    result = call(photo, '--out', out)
    assert 'photo: 1 frame, 1 with anomalies' in result.output
    assert files(out) == {
        'overlay/photo.jpg',
        'labels/photo.png',
        'score/photo.png',
        'mask/photo.png',
        'regions.jsonl',
        'metrics.json',
    }
    labels, score, mask = (
        cv2.imread(str(out / kind / 'photo.png'), cv2.IMREAD_UNCHANGED)
        for kind in ('labels', 'score', 'mask')
    )
    assert labels.shape == score.shape == mask.shape == (64, 96)
    assert (labels[:30] == 1).all() and (labels[34:38] == 0).all()
    assert score.dtype == np.uint16
    assert (score[45:55, 10:30] > 32768).all() and (score[:30] < 32768).all()
    assert ((mask == 255) == (score >= 32768)).all()

    [found] = regions(out)
    assert (found['frame'], found['file']) == ('photo.png', 'photo')
    assert (found['width'], found['height']) == (96, 64)
    [region] = found['regions']
    assert np.abs(np.subtract(region['box'], BOX)).max() <= 1
    assert region['area'] == pytest.approx(600, abs=60)
    assert region['center'] == pytest.approx([18.5, 49.5], abs=1)
    assert 0.5 < region['mean_score'] <= region['max_score'] <= 1
    assert found['anomalous_share'] == pytest.approx(region['area'] / (64 * 96))


def test_the_same_in_python(tmp_path: Path, tiny_bundle: Path) -> None:
    photo = write_image(tmp_path / 'photo.png')
    with Engine.load(str(tiny_bundle), backend='openvino') as engine:
        of_file, of_array = predict(photo, engine), predict(frame(), engine)
        strict = predict(frame(), engine, threshold=1, min_area=10_000)
    assert (of_file.mask == of_array.mask).all() and of_file.regions == of_array.regions
    assert of_file.score.dtype == np.float32 and of_file.score.max() <= 1
    assert [of_file.classes[i].name for i in (0, 1)] == ['road', 'sky']
    assert (of_file.overlay() == OUTLINE_COLOR).all(2).any()
    assert not strict.mask.any() and strict.regions == []
    assert multishift_perception.predict is predict


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((4, 4), np.uint8), r'uint8 \[4, 4\]: give RGB'),
        (np.zeros((4, 4, 3), np.float32), r'float32 \[4, 4, 3\]: give RGB'),
        ([[1]], 'a list: give an array'),
        ('missing.jpg', 'missing.jpg: cannot be read'),
    ],
)
def test_what_is_no_image_is_named(image: Any, message: str, tiny_bundle: Path) -> None:
    with (
        Engine.load(tiny_bundle, backend='openvino') as engine,
        pytest.raises(MultishiftError, match=message),
    ):
        predict(image, engine)


@pytest.mark.parametrize('threshold', [-0.1, 1.1, float('nan')])
def test_what_is_no_threshold_is_named(threshold: float, tiny_bundle: Path) -> None:
    with (
        Engine.load(tiny_bundle, backend='openvino') as engine,
        pytest.raises(MultishiftError, match=r'the threshold is .+: give 0 to 1'),
    ):
        predict(frame(), engine, threshold=threshold)


def test_the_path_of_a_bundle_is_no_engine(tiny_bundle: Path) -> None:
    with pytest.raises(MultishiftError, match=r'the engine is a str: give Engine.load\(BUNDLE\)'):
        predict(frame(), str(tiny_bundle))  # type: ignore[arg-type]


def test_folders_keep_their_form(tmp_path: Path, call: Any) -> None:
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    for name in ('a/f10.png', 'a/f9.png', 'b/x.png', 'b/x.jpg'):
        write_image(photos / name)
    (photos / 'b/broken.jpg').write_bytes(b'\xff\xd8\xff and no more')
    call(photos, '--out', out, '--outputs', 'mask')
    assert [line['file'] for line in regions(out)] == ['a/f9', 'a/f10', 'b/x.jpg', 'b/x.png']
    assert {f for f in files(out) if f.startswith('mask')} == {
        f'mask/{name}.png' for name in ('a/f9', 'a/f10', 'b/x.jpg', 'b/x.png')
    }
    assert not (out / 'overlay').exists()
    [source] = json.loads((out / 'metrics.json').read_text())['sources']
    assert (source['frames'], source['anomalous_frames']) == (4, 4)
    assert source['dropped'] == {'broken': 1}


def test_images_of_a_shell_are_one_source(tmp_path: Path, call: Any) -> None:
    photos = [write_image(tmp_path / f'in/{name}.png') for name in 'ab']
    call(*photos, '--out', tmp_path / 'out')
    call(tmp_path / 'in/*.png', '--out', tmp_path / 'again')
    assert [line['file'] for line in regions(tmp_path / 'out')] == ['a', 'b']
    assert files(tmp_path / 'out') == files(tmp_path / 'again')


def test_images_above_the_current_folder_stay_in_the_one_that_is_written(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / 'a.png')
    write_image(tmp_path / 'here/there/b.png')
    monkeypatch.chdir(tmp_path / 'here')
    call('../a.png', 'there/b.png', 'there/b.png', '--out', 'out', '--outputs', 'mask')
    assert [line['file'] for line in regions(Path('out'))] == ['a', 'here/there/b']
    made = {'metrics.json', 'regions.jsonl', 'mask/a.png', 'mask/here/there/b.png'}
    assert files(tmp_path) == {
        'a.png',
        'here/there/b.png',
        *(f'here/out/{name}' for name in made),
    }


def test_no_two_images_share_a_place(tmp_path: Path) -> None:
    names = ('a.jpg', 'a.png', 'a.png.jpg', 'b.c.jpg')
    files = [write_image(tmp_path / name) for name in names]
    places = [str(frame.place) for frame in files_footage(files, 'all').frames]
    assert places == ['a.jpg', 'a.png', 'a.png.jpg', 'b.c']


def test_each_source_has_a_folder_in_the_one_that_is_written(tmp_path: Path, call: Any) -> None:
    sources = [tmp_path / name for name in ('n/x', 'm/x', 'x_2', 'metrics.json')]
    for source in sources:
        write_image(source / 'a.png')
    write_video(tmp_path / 'v.avi').rename(tmp_path / '...avi')
    out = tmp_path / 'below/out'
    call(*sources, tmp_path / '...avi', '--out', out, '--outputs', 'mask')
    folders = ['x', 'x_2', 'x_2_2', 'metrics.json_2', 'footage']
    assert {p.name for p in out.iterdir()} == {*folders, 'metrics.json'}
    assert [p.name for p in out.parent.iterdir()] == ['out']
    sources = json.loads((out / 'metrics.json').read_text())['sources']
    assert [source['name'] for source in sources] == folders


def test_what_was_written_in_a_folder_of_images_is_none_of_them(
    tmp_path: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    photo = write_image(tmp_path / 'photos/a.png')
    call(photo.parent, '--out', tmp_path / 'photos/seen', '--outputs', 'mask')
    assert [frame.name for frame in images_footage(photo.parent).frames] == ['a.png']
    assert 'photos/seen is left out: it is a report of `multishift predict`' in caplog.text
    # Asked for by its own name, it is read.
    report = images_footage(tmp_path / 'photos/seen')
    assert [frame.name for frame in report.frames] == ['mask/a.png']


def test_what_a_pattern_names_is_not_written_over(tmp_path: Path, call: Any) -> None:
    write_image(tmp_path / 'photos/a.png')
    call(tmp_path / '**/*.png', '--out', tmp_path / 'seen', '--outputs', 'mask')
    result = call(tmp_path / '**/*.png', '--out', tmp_path / 'seen', '--force', code=1)
    assert 'seen/mask/a.png, which is read' in str(result.exception)


def test_a_video_becomes_a_video(tmp_path: Path, call: Any) -> None:
    video, out = write_video(tmp_path / 'drive.avi'), tmp_path / 'out'
    call(video, '--out', out, '--every', 2, '--show-only', 'anomalous')
    assert [line['file'] for line in regions(out)] == ['000000', '000002', '000004']
    assert {p.name for p in (out / 'overlay').iterdir()} == {'000002.jpg', '000004.jpg'}
    capture = cv2.VideoCapture(str(out / 'overlay.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 2


@pytest.mark.slow
def test_a_video_becomes_a_recording_for_rerun(tmp_path: Path, call: Any) -> None:
    reading = pytest.importorskip('rerun.chunk')
    video, path = write_video(tmp_path / 'a.avi'), tmp_path / 'a.rrd'
    call(video, '--out', tmp_path / 'out', '--rerun', path, '--show-only', 'anomalous')
    found: dict[str, list[int]] = {'/a/image': [], '/a/mask': []}
    for chunk in reading.RrdReader(path).stream():
        if chunk.entity_path in found:
            found[chunk.entity_path] += chunk.to_record_batch().column('frame').to_pylist()
    # Three of five have an anomaly; what has no stamps goes by numbers.
    assert [sorted(numbers) for numbers in found.values()] == [[0, 1, 2]] * 2
    words = ['predict', str(video), '--out', str(tmp_path / 'new'), '--rerun', 'a.mp4']
    with pytest.raises(MultishiftError, match='must end in .rrd'):
        CliRunner().invoke(multishift, words, catch_exceptions=False)
    assert not (tmp_path / 'new').exists()


def test_the_video_has_the_frames_in_order(tmp_path: Path, call: Any) -> None:
    # MPEG-4 holds no such rate, which phones write.
    video = write_video(tmp_path / 'slow_motion.avi', rate=239.978)
    call(video, '--out', tmp_path / 'out', '--outputs', 'video')
    capture = cv2.VideoCapture(str(tmp_path / 'out/overlay.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(240, abs=0.1)
    looks = np.array([capture.read()[1][45:55, 10:30].mean() for _ in range(5)])
    changes = np.abs(np.diff(looks)) > 10
    assert changes.tolist() == [False, True, False, False]


def test_a_damaged_video_is_told_of(
    tmp_path: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    video = write_video(tmp_path / 'drive.avi', 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 2 // 3])
    call(video, '--out', tmp_path / 'out', '--outputs', '')
    assert 'of its 40 frames can be read' in caplog.text


def test_each_fault_of_images_is_told_once(
    tmp_path: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / 'in/good.png')
    for name in ('broken.jpg', 'broken_too.jpg'):
        (tmp_path / 'in' / name).write_bytes(b'')
    (tmp_path / 'in/text.jpg').write_text('text')
    call(tmp_path / 'in', '--out', tmp_path / 'out', '--outputs', '')
    warned = [r.getMessage() for r in caplog.records if 'is left out' in r.getMessage()]
    assert [line.split()[1] for line in warned] == ['broken.jpg', 'text.jpg']


def test_images_that_are_to_be_turned_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No pixel is decoded for it: those of a PNG cost more than all else.
    monkeypatch.setattr('PIL.PngImagePlugin.PngImageFile.load', partial(pytest.fail, 'decoded'))
    said = Image.Exif()
    said[ExifTags.Base.Orientation] = 6
    for name in ('a.jpg', 'b.jpg'):
        Image.fromarray(frame()).save(tmp_path / name, exif=said)
    write_image(tmp_path / '0.png')
    shapes = [one.read().shape for one in images_footage(tmp_path).frames]
    assert shapes == [(64, 96, 3)] * 3
    (line,) = [record.getMessage() for record in caplog.records]
    assert re.search(r'a\.jpg is taken as .* EXIF orientation is 6', line)


def test_without_a_frame_that_can_be_used_nothing_is_left(tmp_path: Path, call: Any) -> None:
    pytest.importorskip('rerun')
    broken = [tmp_path / 'a.jpg', tmp_path / 'in/b.jpg']
    for path in broken:
        path.parent.mkdir(exist_ok=True)
        path.write_text('none')
    words = broken[0], broken[1].parent, '--out', tmp_path / 'runs/out'
    for _ in range(2):  # a second time, too, without --force
        result = call(*words, '--rerun', tmp_path / 'x.rrd', code=1)
        assert re.search(r'a\.jpg, .*in: no frame that can be used \(', str(result.exception))
    assert files(tmp_path) == {'a.jpg', 'in/b.jpg'}
    assert not (tmp_path / 'runs').exists()


def test_images_beside_a_bag_are_told_of(
    tmp_path: Path, call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    write_image(tmp_path / 'in/a.png')
    with bags.BagWriter(tmp_path / 'in/drive.mcap') as bag:
        for i in range(3):
            bag.image('/front/image_raw', i * 100_000_000, 'front', frame())
    call(tmp_path / 'in', '--out', tmp_path / 'out', '--outputs', 'video')
    assert 'the images in it are left out' in caplog.text
    assert len(regions(tmp_path / 'out')) == 3
    capture = cv2.VideoCapture(str(tmp_path / 'out/overlay.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_each_camera_of_a_bag_has_a_folder(tmp_path: Path, call: Any) -> None:
    with bags.BagWriter(tmp_path / 'drive.mcap') as bag:
        for i in range(3):
            for camera in ('front', 'left'):
                bag.image(f'/{camera}/image_raw', i * 100_000_000, camera, frame())
    out = tmp_path / 'out'
    call(tmp_path / 'drive.mcap', write_image(tmp_path / 'photo.png'), '--out', out)
    assert {p.name for p in out.iterdir()} == {'front', 'left', 'photo', 'metrics.json'}
    assert len(regions(out / 'left')) == 3
    assert (out / 'front/overlay.mp4').is_file()
    sources = json.loads((out / 'metrics.json').read_text())['sources']
    assert [(s['name'], s['frames']) for s in sources] == [('front', 3), ('left', 3), ('photo', 1)]


def test_only_its_own_files_are_replaced(tmp_path: Path, call: Any) -> None:
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    write_image(photos / 'a.png')
    old = write_image(photos / 'b.png')
    call(photos, '--out', out)
    (out / 'overlay/mine.jpg').write_text('mine')
    result = call(photos, '--out', out, code=1)
    assert '--force' in str(result.exception)
    old.unlink()
    call(photos, '--out', out, '--force')
    assert {p.name for p in (out / 'overlay').iterdir()} == {'a.jpg', 'mine.jpg'}
    (tmp_path / 'other').mkdir()
    (tmp_path / 'other/thesis.txt').write_text('mine')
    result = call(photos, '--out', tmp_path / 'other', '--force', code=1)
    assert 'only a report of `multishift predict` is replaced' in str(result.exception)


def test_two_processes_do_not_mix_in_a_folder(tmp_path: Path, call: Any) -> None:
    photo, out = write_image(tmp_path / 'a.png'), tmp_path / 'runs/out'
    out.mkdir(parents=True)
    with claimed(out / '.multishift.lock'):  # as by another process
        result = call(photo, '--out', out, '--force', code=1)
    assert 'is being written by another process: wait' in str(result.exception)
    call(photo, '--out', out)
    assert not [name for name in files(out) if name.endswith('.lock')]


def test_a_run_that_was_stopped_can_be_started_again(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / 'photos', tmp_path / 'out'
    for name in 'ab':
        write_image(photos / f'{name}.png')

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, '__call__', stop)
        assert 'with --force' in call(photos, '--out', out, code=130).stderr
    assert json.loads((out / 'metrics.json').read_text())['finished'] is False
    call(photos, '--out', out, '--force')
    assert json.loads((out / 'metrics.json').read_text())['finished'] is True


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('missing.jpg', 'missing.jpg: no such file or folder'),
        ('missing/*.jpg', r'missing/\*.jpg: matches no .jpg'),
        ('', 'SOURCE is an empty text'),
        ('99999999999999999999', 'camera 9+ cannot be opened'),
        (os.fsdecode(b'latin\xe9.avi'), 'with a name that is not UTF-8: rename it'),
        ('63', 'camera 63 cannot be opened'),
        ('text.txt', 'neither an image'),
        ('empty', r'empty: no [.a-z, ]* image in it$'),
        ('.', r'in it, but \.avi, \.txt: name videos'),
        ('http://127.0.0.1:9/stream', 'the stream cannot be opened'),
    ],
)
def test_what_cannot_be_opened_is_named(
    source: str,
    message: str,
    tmp_path: Path,
    call: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path('text.txt').write_text('no video')
    write_video(tmp_path / 'v.avi').rename(os.fsdecode(b'latin\xe9.avi'))
    Path('empty').mkdir()
    result = call(source, '--out', 'out', code=1)
    assert isinstance(result.exception, MultishiftError)
    assert re.search(message, str(result.exception))
    assert not Path('out').exists()
    assert 'WARN' not in capfd.readouterr().err  # of OpenCV, for each way that it tries


def test_what_may_not_be_read_is_named(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, 'Permission denied', str(path))

    monkeypatch.setattr('multishift_perception.footage.is_bag', refuse)
    result = call(write_video(tmp_path / 'v.avi'), '--out', tmp_path / 'out', code=1)
    assert 'v.avi: cannot be read (Permission denied)' in str(result.exception)


@pytest.fixture
def stream() -> Iterator[str]:
    """An MJPEG stream of four frames, as cheap cameras serve them."""
    _, jpeg = cv2.imencode('.jpg', frame()[..., ::-1])
    data = jpeg.tobytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
            self.end_headers()
            for _ in range(4):
                head = (
                    f'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n'
                )
                self.wfile.write(head.encode() + data + b'\r\n')

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}/video.mjpg'
    server.shutdown()
    server.server_close()


def test_a_stream_is_read_until_it_ends(tmp_path: Path, call: Any, stream: str) -> None:
    call(stream, '--out', tmp_path / 'out')
    assert len(regions(tmp_path / 'out')) >= 3
    assert all(len(line['regions']) == 1 for line in regions(tmp_path / 'out'))


def test_an_index_opens_a_camera_of_this_machine(
    tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, opened = write_video(tmp_path / 'drive.avi'), []

    capture = cv2.VideoCapture

    class Camera:
        """Not one of OpenCV's: those free what is derived from them as if it was not."""

        def __init__(self) -> None:
            self._capture = capture()

        def open(self, source: Any) -> bool:
            opened.append(source)
            return self._capture.open(str(video))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

    monkeypatch.setattr(cv2, 'VideoCapture', Camera)
    call('2', '--out', tmp_path / 'out', '--outputs', 'mask')
    assert opened == [2]
    assert len(regions(tmp_path / 'out')) == 5


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_all_and_leaves_what_is_live_whole(
    tmp_path: Path, call: Any, stream: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ask = Predictor.__call__
    left = iter([True, True, False])

    def stopped(self: Predictor, images: Any) -> Any:
        if next(left):
            return ask(self, images)
        raise Stopped(number)

    monkeypatch.setattr(Predictor, '__call__', stopped)
    photo = tmp_path / 'photo.png'
    cv2.imwrite(str(photo), np.full((64, 96, 3), 90, np.uint8))
    call(stream, photo, '--out', tmp_path / 'out', code=128 + number)
    assert len(regions(tmp_path / 'out/stream')) == 2
    video = cv2.VideoCapture(str(tmp_path / 'out/stream/overlay.mp4'))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    figures = json.loads((tmp_path / 'out/metrics.json').read_text())
    assert not figures['finished'] and [one['frames'] for one in figures['sources']] == [2]


def test_ctrl_c_is_how_a_stream_ends(
    tmp_path: Path, call: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Predictor.__call__
    left = iter([True, False])

    def twice(self: Predictor, images: Any) -> Any:
        if next(left):
            return ask(self, images)
        raise KeyboardInterrupt

    monkeypatch.setattr(Predictor, '__call__', twice)
    call(stream, '--out', tmp_path / 'out')
    assert len(regions(tmp_path / 'out')) == 1
    assert (tmp_path / 'out/overlay.mp4').is_file()
    assert json.loads((tmp_path / 'out/metrics.json').read_text())['finished'] is True
