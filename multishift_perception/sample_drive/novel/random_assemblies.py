# SPDX-License-Identifier: Apache-2.0
"""Random objects of no known kind, joined from parts: furniture-like, stacks, creatures."""

from __future__ import annotations

import numpy as np

from multishift_perception.sample_drive.novel.patterns import part_colors
from multishift_perception.sample_drive.paint.mesh import Mesh, join, placed
from multishift_perception.sample_drive.paint.solids import box, ellipsoid, tubes


def assembly(rng: np.random.Generator) -> Mesh:
    """Boxes joined as furniture is: a seat or top, legs, a back, drawers, shelves."""
    w, d = rng.uniform(0.5, 2.0), rng.uniform(0.4, 1.0)
    top = float(rng.uniform(0.35, 1.1))
    tones = part_colors(rng, 12)
    thick = float(rng.uniform(0.05, 0.3))
    parts = [box((0, top, 0), (w, thick, d), tones[0])]
    if rng.random() < 0.6:
        r = float(rng.uniform(0.03, 0.08))
        for right in (-1, 1):
            for front in (-1, 1):
                at = (right * (w / 2 - r), top / 2, front * (d / 2 - r))
                parts.append(box(at, (2 * r, top, 2 * r), tones[1]))
    else:
        parts.append(box((0, top / 2, 0), (w * rng.uniform(0.5, 1), top, d * 0.9), tones[1]))
    if rng.random() < 0.6:
        tall = float(rng.uniform(0.3, 1.0))
        parts.append(box((0, top + tall / 2, -d / 2 + 0.06), (w, tall, 0.12), tones[2]))
    for part in range(int(rng.integers(0, 4))):
        size = rng.uniform((0.15, 0.1, 0.15), (0.6 * w, 0.5, d))
        x = float(rng.uniform(-0.5, 0.5) * (w - size[0]))
        parts.append(box((x, top + thick / 2 + size[1] / 2, 0), size, tones[3 + part]))
    return join(parts)


def stack(rng: np.random.Generator) -> Mesh:
    """Boxes, barrels and balls on top of each other."""
    parts, y = [], 0.0
    tones = part_colors(rng, 8)
    radius = float(rng.uniform(0.25, 0.7))
    kind = rng.choice(['box', 'drum', 'ball', 'mixed'])
    for k in range(int(rng.integers(1, 6))):
        h = float(rng.uniform(0.18, 0.6))
        shift = rng.normal(0, 0.07, 2)
        draw = rng.choice(['box', 'drum', 'ball']) if kind == 'mixed' else kind
        if draw == 'box':
            part = box((0, 0, 0), (2 * radius * rng.uniform(0.7, 1.2), h, 1.4 * radius), tones[k])
            part = placed(part, (shift[0], y + h / 2, shift[1]), heading=float(rng.normal(0, 0.3)))
        elif draw == 'drum':
            ends = [[shift[0], y, shift[1]]], [[shift[0], y + h, shift[1]]]
            part = tubes(*ends, radius, radius * rng.uniform(0.75, 1.0), tones[k], sides=12)
        else:
            part = ellipsoid((shift[0], y + h / 2, shift[1]), (radius, h / 2, radius), tones[k])
        parts.append(part)
        y += h
        radius *= float(rng.uniform(0.75, 1.05))
        if y > 2.0:
            break
    return join(parts)


def creature(rng: np.random.Generator) -> Mesh:
    """A body on two to six legs, perhaps with neck, head, ears, tail or horns."""
    length, girth = float(rng.uniform(0.4, 1.7)), float(rng.uniform(0.12, 0.45))
    leg = float(rng.uniform(0.2, 0.95))
    tones = part_colors(rng, 4)
    y = leg + girth * 0.7
    body = ellipsoid(
        (0, y, 0), (girth, girth * rng.uniform(0.8, 1.2), length / 2), tones[0], rings=8, sides=12
    )
    parts = [body]
    pairs = int(rng.choice([1, 2, 2, 2, 3]))
    starts, ends, ra, rb = [], [], [], []
    for z in np.linspace(-0.34, 0.34, pairs) * length if pairs > 1 else [0.0]:
        for side in (-1, 1):
            foot = [side * girth * rng.uniform(0.5, 0.9), 0.0, z + rng.normal(0, 0.12 * leg)]
            knee = [side * girth * 0.7, leg * 0.5, z + rng.normal(0, 0.12 * leg)]
            starts += [[side * girth * 0.6, y, z], knee]
            ends += [knee, foot]
            ra += [girth * 0.34, girth * 0.22]
            rb += [girth * 0.22, girth * 0.16]
    neck = [0, y + rng.uniform(-0.05, 0.7) * length * 0.6, length * rng.uniform(0.5, 0.75)]
    starts.append([0, y, length * 0.36])
    ends.append(neck)
    ra.append(girth * 0.55)
    rb.append(girth * 0.4)
    if rng.random() < 0.7:  # a tail
        starts.append([0, y, -length * 0.42])
        ends.append([0, y + rng.uniform(-0.6, 0.5) * leg, -length * rng.uniform(0.55, 0.9)])
        ra.append(girth * 0.18)
        rb.append(girth * 0.08)
    parts.append(tubes(starts, ends, ra, rb, tones[1], sides=7))
    head = girth * float(rng.uniform(0.4, 0.8))
    parts.append(ellipsoid(neck, (head, head, head * rng.uniform(1.0, 2.0)), tones[2]))
    for side in (-1, 1) if rng.random() < 0.6 else ():
        tip = [side * head * rng.uniform(0.5, 2), neck[1] + head * rng.uniform(1.2, 3.5), neck[2]]
        parts.append(
            tubes([[side * head * 0.5, neck[1], neck[2]]], [tip], head * 0.3, 0.02, tones[3])
        )
    return join(parts)


def heap(rng: np.random.Generator) -> Mesh:
    """A pile of many like things: sacks, stones, boxes, logs."""
    kind = rng.choice(['ball', 'box', 'log'])
    count = int(rng.integers(4, 12))
    tones = part_colors(rng, count)
    parts = []
    for k in range(count):
        at = rng.normal(0, 0.38, 3) * (1, 0, 0.8)
        size = rng.uniform(0.16, 0.42, 3)
        level = max(0.0, 0.75 - abs(at[0]) - abs(at[2])) * rng.random()
        at[1] = size[1] * 0.9 + level
        if kind == 'ball':
            parts.append(ellipsoid(at, size, tones[k], rings=5))
        elif kind == 'box':
            part = box((0, 0, 0), size * 1.7, tones[k])
            parts.append(placed(part, at, heading=float(rng.uniform(0, 3))))
        else:
            turn = rng.uniform(0, 3.1)
            way = np.array([np.cos(turn), 0.05, np.sin(turn)]) * 0.6
            parts.append(
                tubes([at - way], [at + way], size[0] * 0.5, size[0] * 0.45, tones[k], sides=8)
            )
    return join(parts)


def vehicle_like(rng: np.random.Generator) -> Mesh:
    """Things on wheels that are no vehicle: carts, barrows, toys, mowers."""
    w, d, h = rng.uniform(0.4, 0.9), rng.uniform(0.6, 1.4), float(rng.uniform(0.25, 0.7))
    r = float(rng.uniform(0.1, 0.26))
    tones = part_colors(rng, 6)
    parts = [
        box((0, r + h / 2 + 0.05, 0), (w, h, d), tones[0], taper=float(rng.uniform(0.7, 1.3)))
    ]
    for x in (-1, 1):
        for z in (-0.36, 0.36) if rng.random() < 0.7 else (0.0,):
            a = [[x * (w / 2 + 0.02), r, z * d]], [[x * (w / 2 + 0.09), r, z * d]]
            parts.append(tubes(*a, r, r, tones[1] * 0.5, sides=10))
    if rng.random() < 0.7:
        y = r + h
        top = [0.0, y + rng.uniform(0.2, 0.6), -d / 2 - rng.uniform(0.1, 0.5)]
        parts.append(tubes([[0, y, -d / 2]], [top], 0.035, 0.035, tones[2]))
        parts.append(tubes([[-w / 2, *top[1:]]], [[w / 2, *top[1:]]], 0.035, 0.035, tones[2]))
    if rng.random() < 0.5:
        parts.append(ellipsoid((0, r + h + 0.1, 0), (w * 0.4, 0.2, d * 0.3), tones[3]))
    return join(parts)
