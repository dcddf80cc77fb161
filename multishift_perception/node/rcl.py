# SPDX-License-Identifier: Apache-2.0
"""Images by rcl, the C library below rclpy: copied once, and Python's lock stays free meanwhile.

rclpy holds that lock while it takes or publishes a message, and copies a large one twice more.
What is called here are rcl's public functions. The structures mirror those that rosidl generates
for C, field for field, and ROS allocates them; `check` compares them with what this machine's ROS
does. Jazzy is what tests run; Kilted was tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import ctypes
from ctypes import c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
import sys
from typing import Any
import weakref

from builtin_interfaces.msg import Time
import numpy as np
from numpy.typing import NDArray
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from multishift_perception.errors import MultishiftError, one_line
from multishift_perception.node.rclpy_private import rcl_error

# Of rcl/types.h; and of rmw/types.h, what the number of a message is where there is none.
_RCL_RET_OK, _RCL_RET_UNSUPPORTED, _RCL_RET_SUBSCRIPTION_TAKE_FAILED = 0, 3, 401
_RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED = 2**64 - 1


@dataclass(frozen=True)
class TakenImage:
    """An ``Image`` or a ``CompressedImage`` as it was received.

    Attributes:
        header: its header.
        data: its bytes, read-only; they stay as long as somebody holds them.
        received_ns: when the middleware received it, in nanoseconds of the system's clock (of
            Cyclone DDS, when it was taken); 0 where it does not tell.
        number: its place among its publisher's messages; None where they are not numbered.
    """

    header: Header
    data: memoryview
    received_ns: int
    number: int | None


@dataclass(frozen=True)
class TakenRaw(TakenImage):
    """An ``Image``, its fields named as there."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int


@dataclass(frozen=True)
class TakenCompressed(TakenImage):
    """A ``CompressedImage``, its fields named as there."""

    format: str


# The fields of `TakenImage`.
_Common = tuple[Header, memoryview, int, int | None]


class _Bytes(ctypes.Structure):
    """``rosidl_runtime_c__uint8__Sequence``."""

    _fields_ = (('data', c_void_p), ('size', c_size_t), ('capacity', c_size_t))


class _String(_Bytes):
    """``rosidl_runtime_c__String``; its capacity counts the zero at the end, its size does not."""

    def put(self, text: bytes) -> None:
        """Point to a text that somebody keeps."""
        self.data = ctypes.cast(ctypes.c_char_p(text), c_void_p)
        self.size, self.capacity = len(text), len(text) + 1

    def __str__(self) -> str:
        return ctypes.string_at(self.data, self.size).decode(errors='replace')


class _Header(ctypes.Structure):
    """``std_msgs__msg__Header``."""

    _fields_ = (('sec', c_int32), ('nanosec', c_uint32), ('frame_id', _String))

    def message(self) -> Header:
        return Header(stamp=Time(sec=self.sec, nanosec=self.nanosec), frame_id=str(self.frame_id))


class _Image(ctypes.Structure):
    """``sensor_msgs__msg__Image``."""

    _fields_ = (
        ('header', _Header),
        ('height', c_uint32),
        ('width', c_uint32),
        ('encoding', _String),
        ('is_bigendian', c_uint8),
        ('step', c_uint32),
        ('data', _Bytes),
    )

    def taken(self, common: _Common) -> TakenRaw:
        encoding = str(self.encoding)
        return TakenRaw(*common, self.height, self.width, encoding, self.is_bigendian, self.step)


class _CompressedImage(ctypes.Structure):
    """``sensor_msgs__msg__CompressedImage``."""

    _fields_ = (('header', _Header), ('format', _String), ('data', _Bytes))

    def taken(self, common: _Common) -> TakenCompressed:
        return TakenCompressed(*common, str(self.format))


class _MessageInfo(ctypes.Structure):
    """``rmw_message_info_t``."""

    _fields_ = (
        ('source_timestamp', c_int64),
        ('received_timestamp', c_int64),
        ('publication_sequence_number', c_uint64),
        ('rest', c_uint64 * 16),  # more than there is, as nothing of it is read
    )


class _ErrorString(ctypes.Structure):
    """``rcutils_error_string_t``."""

    _fields_ = (('str', ctypes.c_char * 1024),)


_LAYOUTS: dict[type, Any] = {Image: _Image, CompressedImage: _CompressedImage}


class OutgoingImage:
    """An ``Image`` whose pixels are sent from where they are.

    Attributes:
        encoding: as an ``Image`` has it.
    """

    def __init__(self, encoding: str) -> None:
        """Prepare."""
        self.encoding = encoding
        # ROS allocates it: a newer one may know more fields than the structures above.
        address = _type_support(Image).create()
        _type_support(Image).destroy_with(self, address)
        self._image = _Image.from_address(address)
        self._empty = bytes(self._image)

    def publish(self, publisher: Publisher, header: Header, pixels: NDArray[Any]) -> None:
        """Publish pixels ``[h,w]`` or ``[h,w,c]``, rows without gaps.

        Raises:
            RuntimeError: the middleware refuses it.
        """
        if not pixels.flags.c_contiguous:
            raise ValueError('the pixels have gaps')
        with publisher.handle, self.filled(header, pixels) as address:
            _raise_fault(_rcl().rcl_publish(publisher.handle.pointer, address, None))

    @contextmanager
    def filled(self, header: Header, pixels: NDArray[Any]) -> Iterator[int]:
        """Yield the address of ROS's structure, which points to all of that meanwhile."""
        image = self._image
        frame_id, encoding = header.frame_id.encode(), self.encoding.encode()
        image.header.sec, image.header.nanosec = header.stamp.sec, header.stamp.nanosec
        image.header.frame_id.put(frame_id)
        image.height, image.width = pixels.shape[:2]
        image.encoding.put(encoding)
        image.is_bigendian = sys.byteorder == 'big'
        image.step = pixels.strides[0]
        image.data.data = pixels.ctypes.data
        image.data.size = image.data.capacity = pixels.nbytes
        try:
            yield ctypes.addressof(image)
        finally:  # so that ROS frees what it has allocated, and nothing else
            ctypes.memmove(ctypes.addressof(image), self._empty, len(self._empty))


def take(subscription: Subscription) -> TakenRaw | TakenCompressed | None:
    """Take the next message of a subscription of images; None if there is none.

    Raises:
        InvalidHandle: the subscription is destroyed.
        RuntimeError: the middleware cannot hand it over.
    """
    support = _type_support(subscription.msg_type)
    address = support.create()
    image = _LAYOUTS[subscription.msg_type].from_address(address)
    # Each message is taken into memory of its own, so that nothing overwrites it. It is freed when
    # nobody holds its bytes any more: they hold the array below, and that this owner.
    owner = (c_uint8 * 0).from_address(address)
    support.destroy_with(owner, address)
    info = _MessageInfo()
    with subscription.handle:
        pointer = subscription.handle.pointer
        code = _rcl().rcl_take(pointer, address, ctypes.byref(info), None)
    if code == _RCL_RET_SUBSCRIPTION_TAKE_FAILED:
        _clear_fault()
        return None
    _raise_fault(code)
    array = (c_uint8 * image.data.size).from_address(image.data.data or address)  # or of none
    array.owner = owner
    data = memoryview(array).cast('B').toreadonly()
    sequence_number = int(info.publication_sequence_number)
    is_numbered = sequence_number != _RMW_MESSAGE_INFO_SEQUENCE_NUMBER_UNSUPPORTED
    number = sequence_number if is_numbered else None
    common = image.header.message(), data, int(info.received_timestamp), number
    taken: TakenRaw | TakenCompressed = image.taken(common)
    return taken


def count_messages(subscription: Subscription, descriptor: int | None) -> None:
    """Have each message that is received add one to an event descriptor; None: no longer.

    No Python runs for it: messages that are never taken cost nothing here.

    Args:
        subscription: the subscription; none that an executor waits for.
        descriptor: of ``os.eventfd``, not blocking.

    Raises:
        MultishiftError: the middleware offers nothing for it.
        RuntimeError: it fails.
    """
    # Called by the middleware with what is given here and the number of new messages, which is
    # just what the C library's function takes.
    add = ctypes.cast(_libc().eventfd_write, c_void_p) if descriptor is not None else None
    with subscription.handle:
        pointer = subscription.handle.pointer
        set_callback = _rcl().rcl_subscription_set_on_new_message_callback
        code = set_callback(pointer, add, descriptor)
    if code == _RCL_RET_UNSUPPORTED:
        _clear_fault()
        raise MultishiftError(
            f'{get_rmw_implementation_identifier()} does not tell of new messages: choose another '
            'middleware by the environment variable RMW_IMPLEMENTATION, such as rmw_fastrtps_cpp'
        )
    _raise_fault(code)


def check() -> None:
    """See that this machine's ROS lays out images as the structures above have them.

    Raises:
        MultishiftError: it does not, or lacks one of the functions.
    """
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    header = Header(stamp=Time(sec=-1, nanosec=2), frame_id='f')
    raw = Image(header=header, height=2, width=4, encoding='e', is_bigendian=5, step=12)
    compressed = CompressedImage(header=header, format='g')
    for message in raw, compressed:
        message.data.frombytes(pixels.tobytes())
    try:
        _rcl()
        _libc()
        if _as_taken(raw) != (header, pixels.tobytes(), 2, 4, 'e', 5, 12):
            raise AttributeError('sensor_msgs/Image is laid out otherwise')
        if _as_taken(compressed) != (header, pixels.tobytes(), 'g'):
            raise AttributeError('sensor_msgs/CompressedImage is laid out otherwise')
        raw.is_bigendian = int(sys.byteorder == 'big')
        with OutgoingImage('e').filled(header, pixels) as address:
            if _type_support(Image).read(address) != raw:
                raise AttributeError('sensor_msgs/Image is read otherwise')
    except (AttributeError, OSError) as error:
        raise MultishiftError(
            f'images cannot be exchanged with this ROS ({one_line(error)}): run the node with '
            'ROS 2 Jazzy or Kilted on Linux'
        ) from error


def _as_taken(message: Any) -> tuple[Any, ...]:
    """Return a message's header, its bytes, and its other fields, read in C's layout."""
    kind: Any = type(message)
    support = _type_support(kind)
    address = support.create()
    try:
        if not support.fill(message, address):
            raise AttributeError(f'{kind.__name__} cannot be converted')
        image = _LAYOUTS[kind].from_address(address)
        if image.data.size != len(message.data) or not image.data.data:
            raise AttributeError(f'{kind.__name__}.data is laid out otherwise')
        data = memoryview(ctypes.string_at(image.data.data, image.data.size))
        fields = vars(image.taken((image.header.message(), data, 0, None)))
        return tuple(v for k, v in fields.items() if k not in ('received_ns', 'number'))
    finally:
        support.destroy(address)


class _TypeSupport:
    """How ROS allocates, fills, reads and frees the C structure of a message.

    Functions of rosidl's type support for Python, which rclpy itself calls.
    """

    def __init__(self, kind: Any) -> None:
        if kind.__class__._CREATE_ROS_MESSAGE is None:
            kind.__class__.__import_type_support__()
        functions = kind.__class__
        self.create = ctypes.PYFUNCTYPE(c_void_p)(_address(functions._CREATE_ROS_MESSAGE))
        self.destroy = ctypes.PYFUNCTYPE(None, c_void_p)(_address(functions._DESTROY_ROS_MESSAGE))
        self.fill = ctypes.PYFUNCTYPE(ctypes.c_bool, ctypes.py_object, c_void_p)(
            _address(functions._CONVERT_FROM_PY)
        )
        self.read = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p)(
            _address(functions._CONVERT_TO_PY)
        )

    def destroy_with(self, owner: Any, address: int) -> None:
        """Free a structure when its owner goes; when the process ends, that frees all at once."""
        weakref.finalize(owner, self.destroy, address).atexit = False


@lru_cache
def _type_support(kind: Any) -> _TypeSupport:
    return _TypeSupport(kind)


def _address(capsule: Any) -> int:
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return int(read(capsule, None))


@lru_cache
def _rcl() -> Any:
    library = ctypes.CDLL('librcl.so')  # rclpy has loaded it
    for name, arguments in (
        ('rcl_take', 4),
        ('rcl_publish', 3),
        ('rcl_subscription_set_on_new_message_callback', 3),
    ):
        getattr(library, name).argtypes = (c_void_p,) * arguments
    return library


@lru_cache
def _rcutils() -> Any:
    library = ctypes.CDLL('librcutils.so')
    library.rcutils_get_error_string.restype = _ErrorString
    return library


@lru_cache
def _libc() -> Any:
    library = ctypes.CDLL(None)
    library.eventfd_write.argtypes = (ctypes.c_int, c_uint64)
    return library


def _clear_fault() -> None:
    _rcutils().rcutils_reset_error()


def _raise_fault(code: int) -> None:
    if code != _RCL_RET_OK:
        text = _rcutils().rcutils_get_error_string().str.decode(errors='replace')
        _clear_fault()
        raise rcl_error(one_line(text) or f'rcl says {code}')
