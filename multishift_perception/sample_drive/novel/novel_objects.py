# SPDX-License-Identifier: Apache-2.0
"""Objects of no known class, by split: no kind of one split occurs in another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from multishift_perception.sample_drive.novel.demo_household import (
    pallet,
    refrigerator,
    sofa,
    suitcases,
)
from multishift_perception.sample_drive.novel.demo_outdoors import (
    deer,
    dinghy,
    tree_trunk,
    trolley,
)
from multishift_perception.sample_drive.novel.patterns import random_pattern, soft_grain
from multishift_perception.sample_drive.novel.random_assemblies import (
    assembly,
    creature,
    heap,
    stack,
    vehicle_like,
)
from multishift_perception.sample_drive.novel.random_bodies import (
    blob,
    branches,
    crystal,
    lathe,
    ring,
    slab,
)
from multishift_perception.sample_drive.novel.val_objects import (
    armchair,
    barrel,
    bathtub,
    cow,
    hay_bale,
    piano,
    tyre_stack,
)
from multishift_perception.sample_drive.paint.mesh import Mesh, placed
from multishift_perception.sample_drive.paint.seeding import check_split, generator

Builder = Callable[[np.random.Generator], Mesh]

_BUILDERS: dict[str, dict[str, Builder]] = {
    'train': {
        'blob': blob,
        'crystal': crystal,
        'box assembly': assembly,
        'stack': stack,
        'creature': creature,
        'rod frame': branches,
        'turned body': lathe,
        'bent slab': slab,
        'ring': ring,
        'heap': heap,
        'wheeled thing': vehicle_like,
    },
    'val': {
        'armchair': armchair,
        'cow': cow,
        'barrel': barrel,
        'tyre stack': tyre_stack,
        'piano': piano,
        'hay bale': hay_bale,
        'bathtub': bathtub,
    },
    'demo': {
        'sofa': sofa,
        'deer': deer,
        'pallet with boxes': pallet,
        'suitcases': suitcases,
        'refrigerator': refrigerator,
        'dinghy': dinghy,
        'shopping trolley': trolley,
        'fallen tree trunk': tree_trunk,
    },
}
NOVEL_OBJECTS: dict[str, tuple[str, ...]] = {k: tuple(v) for k, v in _BUILDERS.items()}


@dataclass(frozen=True)
class NovelObject:
    """An unknown object that stands on the ground.

    Attributes:
        mesh: its shape, in metres.
        pattern: RGB ``uint8 [128, 128, 3]`` factors laid over it, 128 meaning 1.
        tile: metres that one repetition of the pattern covers.
        reach: radius about its foot that holds all of it, metres.
    """

    mesh: Mesh
    pattern: NDArray[np.uint8]
    tile: float
    reach: float


@lru_cache(maxsize=256)
def novel_object(split: str, kind: str, seed: int) -> NovelObject:
    """Build the object that a kind and a seed stand for."""
    check_split(split)
    rng = generator('novel', split, kind, seed)
    mesh = _BUILDERS[split][kind](rng)
    low = mesh.vertices[:, 1].min()
    extent = np.ptp(mesh.vertices, axis=0).max()
    scale = float(np.clip(extent, 0.8, 2.5) / extent)
    mesh = placed(mesh, (0.0, -low, 0.0))
    if split == 'train':
        pattern = random_pattern(rng)
        tile = float(np.exp(rng.uniform(np.log(0.35), np.log(1.6))))
    else:
        pattern = soft_grain(rng, 0.055, 0.8)
        tile = 1.0
    scaled = replace(mesh, vertices=mesh.vertices * np.float32(scale))
    reach = float(np.linalg.norm(scaled.vertices, axis=1).max())
    return NovelObject(scaled, pattern, tile, reach)
