# SPDX-License-Identifier: Apache-2.0
"""Textured things on a canvas: walls in perspective, pictures that face us, surface patterns."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from multishift_perception.sample_drive.paint.canvas import SUBPIXEL, Canvas, Image
from multishift_perception.sample_drive.paint.geometry import NEAR, Floats

ROOM_LIGHT = (255, 206, 138, 0)


def paint_rectangle(
    canvas: Canvas,
    texture: Image,
    label: int,
    origin: Floats,
    across: Floats,
    up: Floats,
    *,
    normal: Floats,
    glow: float = 0.0,
    threshold: int = 256,
) -> None:
    """Paint a textured parallelogram from ``origin`` along ``across`` and ``up``.

    Args:
        canvas: what to paint on.
        texture: RGB or RGBA ``uint8``; its bottom left corner lies at ``origin``. Where the
            fourth channel reaches ``threshold`` the surface emits ``glow``.
        label: class of the surface.
        origin: ``float32 [3]``, metres.
        across: ``float32 [3]``, the texture's width in the world.
        up: ``float32 [3]``, the texture's height in the world.
        normal: ``float32 [3]``, unit, outward; seen from behind, nothing is painted.
        glow: light that lit parts emit.
        threshold: least value of the fourth channel that counts as lit.
    """
    corners = np.stack([origin, origin + across, origin + across + up, origin + up])
    seen = canvas.camera.to_camera(corners)
    if float(canvas.camera.directions(normal) @ seen[0]) >= 0 or seen[:, 2].max() < NEAR:
        return
    outline = canvas.outline(seen)
    if len(outline) < 3:
        return
    left, top = (outline.min(0) >> SUBPIXEL).clip(0)
    right, bottom = (outline.max(0) >> SUBPIXEL) + 1
    right, bottom = min(right, canvas.camera.width), min(bottom, canvas.camera.height)
    if right - left < 1 or bottom - top < 1:
        return
    plane = canvas.camera.inverse_depth(origin, normal)
    number = canvas.surface(label, plane)
    height, width = texture.shape[:2]
    texel = np.array([[1 / width, 0, 0], [0, -1 / height, 1], [0, 0, 1]])
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1]], np.float64)
    matrix = shift @ canvas.camera.homography(origin, across, up) @ texel
    size = (int(right - left), int(bottom - top))
    shade = canvas.light.shade(normal[None])[0]
    early = height * width < size[0] * size[1]
    warped = cv2.warpPerspective(
        _tint(texture, shade) if early else texture,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    warped = np.asarray(warped, np.uint8) if early else _tint(warped, shade)
    if texture.shape[2] == 4 and threshold < 256:
        lit = canvas.surface(label, plane, glow)
        switched = cv2.extractChannel(warped, 3)
        lamp_lit = cv2.addWeighted(warped, 0.5, np.full_like(warped, ROOM_LIGHT), 0.5, 0)
        cv2.copyTo(lamp_lit, cv2.inRange(switched, threshold, 255), warped)
        numbers = np.full(256, number, np.uint8)
        numbers[threshold:] = lit
        cv2.insertChannel(cv2.LUT(switched, numbers), warped, 3)
    else:
        if texture.shape[2] == 3:
            warped = np.asarray(cv2.cvtColor(warped, cv2.COLOR_RGB2RGBA), np.uint8)
        cv2.insertChannel(np.full(size[::-1], number, np.uint8), warped, 3)
    mask = np.zeros((size[1], size[0]), np.uint8)
    cv2.fillConvexPoly(mask, outline - (np.array([left, top]) << SUBPIXEL), 1, 8, SUBPIXEL)
    cv2.copyTo(warped, mask, canvas.pixels[top:bottom, left:right])


def paint_grain(
    canvas: Canvas, number: int, foot: ArrayLike, reach: float, tile: float, texture: Image
) -> None:
    """Multiply a painted surface by a texture (128 leaves it alone) hung up at ``foot``.

    Args:
        canvas: what to paint on.
        number: the surface, as ``mesh`` returned it; -1 does nothing.
        foot: ``float32 [3]``, where the texture is anchored.
        reach: radius around ``foot`` that holds the object, metres.
        tile: metres that one repetition of the texture covers.
        texture: RGB ``uint8 [size, size, 3]``, repeated in both directions.
    """
    at = canvas.camera.to_camera(np.asarray(foot, np.float32))
    if number < 0 or at[2] < 2 * NEAR:
        return
    scale = canvas.camera.focal / float(at[2])
    x, y = canvas.camera.project(at)
    extent = round(reach * scale)
    x0, y0 = max(round(float(x)) - extent, 0), max(round(float(y)) - extent, 0)
    x1 = min(round(float(x)) + extent, canvas.camera.width)
    y1 = min(round(float(y)) + extent, canvas.camera.height)
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    part = canvas.pixels[y0:y1, x0:x1]
    zoom = texture.shape[0] / (scale * tile)
    columns = np.mod((np.arange(x0, x1) - float(x)) * zoom, texture.shape[1]).astype(np.intp)
    rows = np.mod((np.arange(y0, y1) - float(y)) * zoom, texture.shape[0]).astype(np.intp)
    pattern = texture[rows][:, columns]
    mask = cv2.inRange(part[..., 3], number, number)
    product = cv2.multiply(part[..., :3], pattern, scale=1 / 128)
    full = np.dstack([product, part[..., 3]])
    cv2.copyTo(full, mask, part)


def paint_sprite(
    canvas: Canvas,
    picture: Image,
    label: int,
    base: ArrayLike,
    size: tuple[float, float],
    tint: Floats,
) -> int:
    """Paint an RGBA picture upright, facing us.

    Args:
        canvas: what to paint on.
        picture: ``uint8 [rows, columns, 4]``; shown where the fourth channel exceeds 127.
        label: class of the surface.
        base: ``float32 [3]``, the middle of the picture's lower edge.
        size: width and height, metres.
        tint: ``float32 [3]``, factors on its colours.

    Returns:
        The surface's number, -1 if it is not in view.
    """
    width, height = size
    foot = canvas.camera.to_camera(np.asarray(base, np.float32))
    if foot[2] < 2 * NEAR:
        return -1
    scale = canvas.camera.focal / float(foot[2])
    x, y = canvas.camera.project(foot)
    wide, tall = round(width * scale), round(height * scale)
    if wide < 2 or tall < 2:
        return -1
    flipped = canvas.camera.mirrored
    left, top = round(float(x) - wide / 2), round(float(y)) - (0 if flipped else tall)
    x0, y0 = max(left, 0), max(top, 0)
    x1 = min(left + wide, canvas.camera.width)
    y1 = min(top + tall, canvas.camera.height)
    if x1 <= x0 or y1 <= y0:
        return -1
    number = canvas.surface(label, (1 / float(foot[2]), 0.0, 0.0))
    source = _tint(picture[::-1] if flipped else picture, tint)
    source[..., 3] = np.where(source[..., 3] > 127, number, 0)
    matrix = np.array(
        [
            [source.shape[1] / wide, 0, (x0 - left) * source.shape[1] / wide],
            [0, source.shape[0] / tall, (y0 - top) * source.shape[0] / tall],
        ]
    )
    scaled = cv2.warpAffine(
        source, matrix, (x1 - x0, y1 - y0), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    cv2.copyTo(scaled, cv2.extractChannel(scaled, 3), canvas.pixels[y0:y1, x0:x1])
    return number


def _tint(texture: NDArray[Any], shade: Floats) -> Image:
    """Multiply a texture's colours, leaving a fourth channel alone."""
    factors: Any = (*shade.tolist(), 1.0)  # a scalar per channel, which OpenCV's stubs lack
    return np.asarray(cv2.multiply(texture, factors), np.uint8)
