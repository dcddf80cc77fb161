# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import array
from io import BytesIO
import sys
from types import SimpleNamespace

import cv2
import numpy as np
from PIL import Image
import pytest
import simplejpeg

from multishift_perception.images import codec
from multishift_perception.images.codec import decode_compressed, decode_image
from multishift_perception.images.frame_errors import (
    BrokenFrame,
    FrameError,
    OversizedFrame,
    UnsupportedEncoding,
)

HEIGHT, WIDTH = 8, 12


@pytest.fixture
def rgb():
    """Left half and right half of different colours; every channel differs."""
    image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
    image[:, : WIDTH // 2] = (200, 40, 90)
    image[:, WIDTH // 2 :] = (10, 220, 130)
    return image


def decode(encoding, pixels, *, padding=0, bigendian=False, **fields):
    """Decode rows of bytes ``[rows, bytes]`` after padding each row with rubbish."""
    rows = np.pad(pixels, ((0, 0), (0, padding)), constant_values=0xA5)
    height = fields.pop('height', rows.shape[0])
    return decode_image(
        encoding=encoding,
        height=height,
        width=fields.pop('width', WIDTH),
        step=fields.pop('step', rows.shape[1]),
        is_bigendian=bigendian,
        data=fields.pop('data', array.array('B', rows.tobytes())),
    )


def flat(pixels):
    return np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1).view(np.uint8)


@pytest.mark.parametrize('padding', [0, 1, 20])
@pytest.mark.parametrize(
    ('encoding', 'order'),
    [('rgb8', [0, 1, 2]), ('bgr8', [2, 1, 0]), ('rgba8', [0, 1, 2, 0]), ('bgra8', [2, 1, 0, 0])],
)
def test_packed_colour(rgb, encoding, order, padding):
    np.testing.assert_array_equal(decode(encoding, flat(rgb[..., order]), padding=padding), rgb)


def test_rgb8_is_a_read_only_view_of_the_message(rgb):
    data = array.array('B', rgb.tobytes())
    frame = decode('rgb8', flat(rgb), data=data)
    data[0] = 7
    assert frame[0, 0, 0] == 7
    assert not frame.flags.writeable


@pytest.mark.parametrize('padding', [0, 4])
def test_mono8(rgb, padding):
    grey = rgb[..., 1]
    frame = decode('mono8', grey, padding=padding)
    np.testing.assert_array_equal(frame, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize('padding', [0, 3])
def test_mono16_keeps_the_high_byte_of_either_order(rgb, bigendian, padding):
    grey = rgb[..., 1]
    words = (grey.astype(np.uint16) << 8 | 0x33).astype('>u2' if bigendian else '<u2')
    frame = decode('mono16', flat(words), padding=padding, bigendian=bigendian)
    np.testing.assert_array_equal(frame, np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('padding', [0, 5])
def test_bayer_mosaic_of_one_colour_gives_that_colour(pattern, padding):
    color = {'r': 200, 'g': 90, 'b': 20}
    tile = np.array([color[c] for c in pattern], np.uint8).reshape(2, 2)
    frame = decode(f'bayer_{pattern}8', np.tile(tile, (HEIGHT // 2, WIDTH // 2)), padding=padding)
    np.testing.assert_array_equal(frame[2:-2, 2:-2], np.broadcast_to((200, 90, 20), (4, 8, 3)))


def yuv_of(image):
    """Return Y, U, V of BT.601 limited range, computed by its published coefficients."""
    r, g, b = (image[..., i].astype(float) for i in range(3))
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    u = 128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255
    v = 128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255
    return tuple(np.rint(c).astype(np.uint8) for c in (y, u, v))


@pytest.mark.parametrize('padding', [0, 8])
@pytest.mark.parametrize('encoding', ['yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'])
def test_yuv422(rgb, encoding, padding):
    y, u, v = yuv_of(rgb)
    chroma = np.where(np.arange(WIDTH) % 2 == 0, u, v)
    luma_first = encoding in ('yuv422_yuy2', 'yuyv')
    pairs = np.stack([y, chroma] if luma_first else [chroma, y], axis=-1)
    frame = decode(encoding, flat(pairs), padding=padding)
    np.testing.assert_allclose(frame.astype(int), rgb, atol=3)


@pytest.mark.parametrize('padding', [0, 4])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_nv12_and_nv21_have_half_as_many_rows_again(rgb, encoding, padding):
    y, u, v = yuv_of(rgb)
    first, second = (u, v) if encoding == 'nv12' else (v, u)
    chroma = np.where(np.arange(WIDTH) % 2 == 0, first, second)[: HEIGHT // 2]
    frame = decode(encoding, np.vstack([y, chroma]), padding=padding, height=HEIGHT)
    np.testing.assert_allclose(frame.astype(int), rgb, atol=3)


@pytest.mark.parametrize('encoding', ['32FC1', '8UC3', '16UC1', '', 'RGB8', 'jpeg'])
def test_an_unknown_encoding_is_refused_by_name(rgb, encoding):
    with pytest.raises(UnsupportedEncoding, match=f"'{encoding}'.*rgb8") as caught:
        decode(encoding, flat(rgb))
    assert caught.value.cause == 'encoding'


@pytest.mark.parametrize(
    ('encoding', 'fields', 'said'),
    [
        ('rgb8', {'height': HEIGHT - 1}, '288 bytes'),
        ('rgb8', {'height': HEIGHT + 1}, '288 bytes'),
        ('rgb8', {'data': b''}, '0 bytes'),
        ('rgb8', {'height': 0, 'data': b''}, '12 x 0'),
        ('rgb8', {'width': 0}, '0 x 8'),
        ('rgb8', {'step': 35}, 'step is 35'),
        ('rgb8', {'step': 0, 'data': b''}, 'step is 0'),
        ('mono16', {'width': 19}, 'step is 36, a row of 19 pixels has 38 bytes'),
        ('rgb8', {'width': 2**31, 'height': 2**31}, 'step is 36'),
        ('yuv422', {'width': 11}, 'even width'),
        ('nv12', {'height': 5}, 'even height'),
        ('nv21', {'width': 11}, 'even width'),
    ],
)
def test_contradicting_fields_are_broken(rgb, encoding, fields, said):
    with pytest.raises(BrokenFrame, match=said) as caught:
        decode(encoding, flat(rgb), **fields)
    assert caught.value.cause == 'broken'


@pytest.mark.parametrize('encoding', codec.ENCODINGS)
@pytest.mark.parametrize('size', [(1, 1), (1, 2), (2, 1), (2, 2), (3, 5)])
def test_tiny_images_decode_or_are_refused(encoding, size):
    height, width = size
    rows = height * 3 // 2 if encoding.startswith('nv') else height
    step = width * 4
    try:
        frame = decode_image(encoding, height, width, step, False, bytes(rows * step))
    except FrameError:
        return
    assert frame.shape == (height, width, 3)


@pytest.mark.parametrize('bigendian', [False, True])
def test_cv_bridge_gets_packed_rows_in_native_order(rgb, monkeypatch, bigendian):
    seen = []

    class Bridge:
        def imgmsg_to_cv2(self, message, wanted):
            assert wanted == 'rgb8'
            seen.append(message)
            words = np.frombuffer(message.data, np.uint16)
            return (words.reshape(message.height, message.width, 3) >> 8).astype(np.uint8)

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=Bridge))
    words = (rgb.astype(np.uint16) << 8).astype('>u2' if bigendian else '<u2')
    frame = decode('rgb16', flat(words), padding=6, bigendian=bigendian)
    np.testing.assert_array_equal(frame, rgb)
    assert seen[0].step == WIDTH * 6
    assert seen[0].is_bigendian == (sys.byteorder == 'big')


def test_what_needs_cv_bridge_says_so_where_it_is_missing(rgb, monkeypatch):
    monkeypatch.setitem(sys.modules, 'cv_bridge', None)
    with pytest.raises(UnsupportedEncoding, match="'rgb16' needs cv_bridge"):
        decode('rgb16', flat(rgb.astype(np.uint16)))


def test_what_cv_bridge_cannot_convert_is_an_unsupported_encoding(rgb, monkeypatch):
    class Bridge:
        def imgmsg_to_cv2(self, message, wanted):
            raise TypeError('no conversion')

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=Bridge))
    with pytest.raises(UnsupportedEncoding, match='no conversion'):
        decode('rgb16', flat(rgb.astype(np.uint16)))


@pytest.fixture
def photo():
    """A smooth image, which JPEG keeps to a few grey levels."""
    y, x = np.mgrid[0:64, 0:96]
    return np.stack([x * 2, y * 3, 200 - x], axis=-1).astype(np.uint8)


def encoded(image, extension):
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return array.array('B', data.tobytes())


@pytest.mark.parametrize(('extension', 'tolerance'), [('.png', 0), ('.jpg', 12)])
def test_compressed(photo, extension, tolerance):
    frame = decode_compressed(encoded(photo, extension))
    assert frame.dtype == np.uint8
    np.testing.assert_allclose(frame.astype(int), photo, atol=tolerance)


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
@pytest.mark.parametrize('padding', [bytes(100), bytes(50_000), b'\xa5' * 9_000])
def test_what_follows_the_end_is_ignored(photo, extension, padding):
    """Drivers send their whole buffer, whatever is behind the file in it."""
    whole = encoded(photo, extension).tobytes()
    np.testing.assert_array_equal(decode_compressed(whole + padding), decode_compressed(whole))


@pytest.fixture(scope='module')
def scene():
    """An image with detail, of 480 x 640 pixels."""
    y, x = np.mgrid[0:480, 0:640]
    noise = np.random.default_rng(0).normal(0, 12, (480, 640, 3))
    return np.clip(np.stack([x / 3, y / 2, (x + y) / 5], -1) + noise, 0, 255).astype(np.uint8)


def jpeg(image, *options):
    done, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done
    return data.tobytes()


def test_a_jpeg_that_is_damaged_inside_is_broken(scene):
    """It has its end marker, and decoders make up what is missing."""
    whole, other = jpeg(scene), jpeg(scene[::-1])
    middle = len(whole) // 2
    flipped = bytearray(whole)
    for i in range(20):
        flipped[700 + i * (len(whole) - 800) // 20] ^= 0x5A
    damaged = {
        'its second half missing': whole[:middle] + b'\xff\xd9',
        '20 bytes flipped': bytes(flipped),
        '512 bytes missing': whole[:middle] + whole[middle + 512 :],
        'the tail of another frame': whole[:middle] + other[middle:],
    }
    assert decode_compressed(whole).shape == scene.shape
    passed = []
    for name, data in damaged.items():
        try:
            decode_compressed(data)
            passed.append(name)
        except BrokenFrame as error:
            assert 'cannot be decoded' in str(error)
    assert passed == []


@pytest.mark.parametrize('marker', [b'\xff\xd9', b'\xff\xd3'])
def test_bytes_that_webcams_put_before_a_marker_are_no_damage(scene, marker):
    whole = jpeg(scene, cv2.IMWRITE_JPEG_RST_INTERVAL, 40)
    at = whole.rindex(marker)
    padded = whole[:at] + bytes(8) + whole[at:]
    np.testing.assert_array_equal(decode_compressed(padded), decode_compressed(whole))
    with pytest.raises(BrokenFrame, match='extraneous bytes'):
        decode_compressed(whole[:at] + bytes(40) + whole[at:])


@pytest.mark.parametrize(
    'options',
    [
        (),
        (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
)
def test_a_jpeg_has_the_pixels_that_opencv_finds(scene, options):
    data = jpeg(scene, *options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_compressed(data), expected[..., ::-1])


@pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
@pytest.mark.parametrize('format', ['{0}; png compressed {0}', '{0}; png compressed ', '{0}'])
def test_a_compressed_mosaic_is_decoded_as_the_raw_one(scene, pattern, format):
    encoding = f'bayer_{pattern}8'
    mosaic = np.ascontiguousarray(scene[..., 1])
    _, data = cv2.imencode('.png', mosaic)
    message = SimpleNamespace(format=format.format(encoding), data=data.tobytes())
    raw = decode_image(encoding, 480, 640, 640, False, mosaic.tobytes())
    np.testing.assert_array_equal(codec.decode(message), raw)
    assert np.ptp(raw.astype(int), axis=2).any()


def test_a_compressed_mosaic_of_16_bits_goes_the_way_of_the_raw_one(scene, monkeypatch):
    seen = []

    class Bridge:
        def imgmsg_to_cv2(self, message, wanted):
            seen.append(message)
            return np.zeros((message.height, message.width, 3), np.uint8)

    monkeypatch.setitem(sys.modules, 'cv_bridge', SimpleNamespace(CvBridge=Bridge))
    mosaic = scene[..., 1].astype('<u2') * 250
    _, data = cv2.imencode('.png', mosaic)
    decode_compressed(data.tobytes(), 'bayer_gbrg16; png compressed bayer_gbrg16')
    decode_image('bayer_gbrg16', 480, 640, 1280, False, mosaic.tobytes())
    assert seen[0] == seen[1]
    assert seen[0].encoding == 'bayer_gbrg16'


def test_a_mosaic_may_be_a_jpeg(scene):
    data = cv2.imencode('.jpg', scene[..., 1])[1].tobytes()
    mosaic = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(
        decode_compressed(data, 'bayer_rggb8; jpeg compressed '),
        decode_image('bayer_rggb8', 480, 640, 640, False, mosaic.tobytes()),
    )


@pytest.mark.parametrize(
    'format',
    ['', 'png', 'mono8; png compressed ', 'bayer_rggb8; png compressed mono8', 'bayer_x; png'],
)
def test_grey_is_no_mosaic_unless_the_format_says_so(photo, format):
    _, data = cv2.imencode('.png', photo[..., 0])
    frame = decode_compressed(data.tobytes(), format)
    np.testing.assert_array_equal(frame, np.repeat(photo[..., :1], 3, axis=2))


def test_colour_is_no_mosaic_whatever_the_format_says(photo):
    data = encoded(photo, '.png')
    for target in ('bgr8', 'bayer_rggb8', ''):
        frame = decode_compressed(data, f'bayer_rggb8; png compressed {target}')
        np.testing.assert_array_equal(frame, photo)


@pytest.mark.parametrize('extension', ['.png', '.jpg', '.webp'])
def test_an_oversized_image_is_refused_from_its_header(extension):
    _, data = cv2.imencode(extension, np.zeros((16, 16, 3), np.uint8))
    whole = SimpleNamespace(format=extension, data=data.tobytes())
    with pytest.raises(OversizedFrame):
        codec.decode(whole, max_pixels=255)
    assert codec.decode(whole, max_pixels=256).shape == (16, 16, 3)


def test_a_header_alone_is_enough_to_refuse():
    data = bytearray(cv2.imencode('.png', np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    data[16:24] = (12_000).to_bytes(4, 'big') * 2
    with pytest.raises(OversizedFrame, match='12000 x 12000 .* 32 million') as caught:
        decode_compressed(bytes(data))
    assert caught.value.cause == 'oversized'
    with pytest.raises(BrokenFrame):
        decode_compressed(bytes(data), max_pixels=None)


def of_size(data, width, height):
    """Have the header of a PNG or JPEG say another size."""
    data, sides = bytearray(data), (width, height)
    if data.startswith(b'\x89PNG'):
        data[16:24] = b''.join(side.to_bytes(4, 'big') for side in sides)
    else:
        at = data.index(b'\xff\xc0') + 5
        data[at : at + 4] = b''.join(side.to_bytes(2, 'big') for side in reversed(sides))
    return bytes(data)


@pytest.mark.parametrize(
    ('extension', 'size'), [('.png', (12_000, 12_000)), ('.jpg', (7680, 4320))]
)
def test_what_is_refused_for_its_size_is_never_decoded(monkeypatch, extension, size):
    data = of_size(cv2.imencode(extension, np.zeros((16, 16, 3), np.uint8))[1].tobytes(), *size)

    def never(*_, **__):
        raise AssertionError('it is decoded')

    for owner, name in (
        (cv2, 'imdecode'),
        (simplejpeg, 'decode_jpeg'),
        (Image.Image, 'load'),
    ):
        monkeypatch.setattr(owner, name, never)
    with pytest.raises(OversizedFrame, match='{} x {}'.format(*size)):
        decode_compressed(data)
    with pytest.raises(AssertionError, match='it is decoded'):
        decode_compressed(data, max_pixels=None)


def test_an_oversized_mosaic_or_raw_image_is_refused(rgb):
    _, data = cv2.imencode('.png', rgb[..., 0])
    with pytest.raises(OversizedFrame):
        decode_compressed(data.tobytes(), 'bayer_rggb8', max_pixels=HEIGHT * WIDTH - 1)
    message = SimpleNamespace(
        encoding='rgb8', height=HEIGHT, width=WIDTH, step=3 * WIDTH, is_bigendian=0
    )
    message.data = rgb.tobytes()
    with pytest.raises(OversizedFrame):
        codec.decode(message, max_pixels=HEIGHT * WIDTH - 1)
    np.testing.assert_array_equal(codec.decode(message), rgb)


def test_an_orientation_tag_is_not_obeyed():
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ('jpeg', 'png', 'webp'):
        file = BytesIO()
        Image.fromarray(np.zeros((16, 32, 3), np.uint8)).save(file, kind, exif=exif)
        assert decode_compressed(file.getvalue()).shape == (16, 32, 3)


def test_sixteen_bit_png_becomes_eight_bit(photo):
    done, data = cv2.imencode('.png', photo[..., 0].astype(np.uint16) << 8)
    assert done
    frame = decode_compressed(data.tobytes())
    np.testing.assert_array_equal(frame, np.repeat(photo[..., :1], 3, axis=2))


@pytest.mark.parametrize('extension', ['.png', '.jpg'])
@pytest.mark.parametrize('kept', [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_broken_not_half_grey(photo, extension, kept):
    data = encoded(photo, extension)
    with pytest.raises(BrokenFrame):
        decode_compressed(data[: int(len(data) * kept)])


@pytest.mark.parametrize('data', [b'\xff\xd8\xff\xd9', b'\x89PNG\r\n\x1a\nIEND\xaeB`\x82'])
def test_an_empty_shell_of_a_file_is_broken(data):
    with pytest.raises(BrokenFrame, match='cannot be decoded'):
        decode_compressed(data)


def test_bytes_of_no_image():
    with pytest.raises(UnsupportedEncoding, match='68 65 6c 6c 6f'):
        decode_compressed(b'hello')
    with pytest.raises(BrokenFrame, match='no bytes'):
        decode_compressed(b'')
    with pytest.raises(UnsupportedEncoding):
        decode_compressed(encoded(np.zeros((4, 4, 3), np.uint8), '.bmp'))
