"""Folder layouts: which files of a data set are images, and which label image belongs to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
import re
from typing import NamedTuple

from multishift_perception.errors import MultishiftError
from multishift_perception.images.listing import PICTURES
from multishift_training.datasets.config import (
    AcdcPocData,
    CamvidData,
    CityscapesData,
    FishyscapesLostFoundData,
    FishyscapesStaticData,
    FolderData,
    MuadData,
    MultishiftCityscapesData,
    RoadAnomaly21Data,
    RoadAnomalyData,
    RoadObstacle21Data,
)
from multishift_training.datasets.entries import (
    MEND_ROOT,
    Entry,
    Files,
    find,
    pair,
    some,
)
from multishift_training.datasets.generated import weighted

_UNPACK = 'unpack the data set again'
_TRAIN_IDS = 'create them with cityscapesScripts (csCreateTrainIdLabelImgs)'
_CITY_IMAGE = ('_leftImg8bit.png',)
_CITY_LABELS = ('_gtFine_labelTrainIds.png',)
_CITY_LABEL_IDS = '_gtFine_labelIds.png'


class Folders(NamedTuple):
    """An image folder and a label folder below the root, and how file names in them end."""

    images: str
    labels: str
    image_ends: tuple[str, ...] = PICTURES
    label_ends: tuple[str, ...] = ('.png',)


# Rearranged copies are common: of each data set, those that known projects hand round.
_ROAD_ANOMALY = (
    Folders('frames', 'frames', ('.jpg',), ('.labels/labels_semantic.png',)),
    Folders('images/val', 'annotations/val', PICTURES, ('.labels/labels_semantic.png',)),
    Folders('original', 'labels'),
    Folders('images', 'labels_masks'),
)
_FISHYSCAPES = (
    Folders('original', 'labels'),
    Folders('images', 'labels_masks'),
    Folders('images/val', 'annotations/val'),
    Folders('images', 'annotations'),
)
_LOST_AND_FOUND = (
    Folders('laf_images', 'fishyscapes_lostandfound', _CITY_IMAGE, ('_labels.png',)),
    Folders('leftImg8bit', 'fishyscapes_lostandfound', _CITY_IMAGE, ('_labels.png',)),
    *_FISHYSCAPES,
)


def cityscapes(config: CityscapesData | MultishiftCityscapesData, root: Path) -> list[Entry]:
    """List Cityscapes, or generated partners, by city and name."""
    base = root / config.root
    pairs = pair(
        config.kind,
        find(base / 'leftImg8bit' / config.split, '*/*', _CITY_IMAGE),
        find(base / 'gtFine' / config.split, '*/*', _CITY_LABELS),
        mend=_TRAIN_IDS if config.kind == 'cityscapes' else _UNPACK,
    )
    entries = []
    for key, image, labels in pairs:
        name = key.rpartition('/')[2]
        scene = re.match(r'.+?_\d{6}_\d{6}(?=_|$)', name)
        entries.append(Entry(image, labels, name, scene[0] if scene else name))
    return weighted(entries, base / 'records.jsonl')


def label_ids(entry: Entry) -> Path | None:
    """Return the image of Cityscapes' own label ids beside that of train ids, if it is there."""
    path = entry.labels.with_name(entry.labels.name.replace(_CITY_LABELS[0], _CITY_LABEL_IDS))
    return path if path.is_file() else None


def road_anomaly(config: RoadAnomalyData, root: Path) -> list[Entry]:
    """List RoadAnomaly by name."""
    return _in_folders(config.kind, root / config.root, _ROAD_ANOMALY)


def smiyc(config: RoadAnomaly21Data | RoadObstacle21Data, root: Path) -> list[Entry]:
    """List the images of a SegmentMeIfYouCan track that have labels."""
    folders = Folders('images', 'labels_masks', PICTURES, ('_labels_semantic.png',))
    return _in_folders(config.kind, root / config.root, (folders,), every_image=False)


def lost_found(config: FishyscapesLostFoundData, root: Path) -> list[Entry]:
    """List Fishyscapes Lost & Found; Lost & Found's other images are left out."""
    return _in_folders(config.kind, root / config.root, _LOST_AND_FOUND, every_image=False)


def static(config: FishyscapesStaticData, root: Path) -> list[Entry]:
    """List Fishyscapes Static: ready images, or overlays with the Cityscapes images they need."""
    folder = root / config.root
    overlays = find(folder, '*', ('_rgb.npz',))
    if not overlays.by_key:
        return _in_folders(config.kind, folder, _FISHYSCAPES)
    pairs = pair(config.kind, overlays, find(folder, '*', ('_labels.png',)), mend=_UNPACK)
    originals = find(root / config.originals / 'leftImg8bit' / 'val', '*/*', _CITY_IMAGE, key=_key)
    bases = _bases(config.kind, {key: _key(key) for key, _, _ in pairs}, originals)
    return [Entry(image, labels, key, key, base=bases[key]) for key, image, labels in pairs]


def acdc_poc(config: AcdcPocData, root: Path) -> list[Entry]:
    """List ACDC-POC by condition: ready images, or differences with the images they need."""
    folder, ends = root / config.root, ('.png', '.npz')
    pairs = [
        found
        for found in pair(
            config.kind,
            find(folder / 'rgb_anon_trainvaltest' / 'rgb_anon', '*/val/*/*', ends),
            find(folder / 'gt_trainval' / 'gt', '*/val/*/*', ends),
            mend=_UNPACK,
        )
        if found[0].partition('/')[0] in config.conditions
    ]
    if not pairs:
        raise MultishiftError(
            f'{config.kind}: {folder} has no image of {config.conditions}: mend `conditions`'
        )
    differences = {
        key: key.partition('_rgb_anon_')[0] for key, image, _ in pairs if image.suffix == '.npz'
    }
    originals = root / config.originals / 'rgb_anon_trainvaltest' / 'rgb_anon'
    bases = _bases(config.kind, differences, find(originals, '*/val/*/*', ('_rgb_anon.png',)))
    entries = []
    for key, image, labels in pairs:
        name = key.rpartition('/')[2]
        condition = key.partition('/')[0]
        entries.append(Entry(image, labels, name, name, condition, bases.get(key)))
    return entries


def muad(config: MuadData, root: Path) -> list[Entry]:
    """List MUAD by name."""
    folders = Folders('leftImg8bit', 'leftLabel', ('.png',))
    return _in_folders(config.kind, root / config.root, (folders,))


def camvid(config: CamvidData, root: Path) -> list[Entry]:
    """List CamVid by drive and time; the drive filmed at dusk is a condition of its own."""
    split = config.split
    variants = (
        Folders(f'images/{split}', f'labels/{split}'),
        Folders(split, f'{split}annot'),
    )
    entries = _in_folders(
        config.kind, root / config.root, variants, names=config.patterns, every_label=False
    )
    return [
        replace(entry, condition='dusk' if entry.name.startswith('0001TP') else 'day')
        for entry in entries
    ]


def folder(config: FolderData, root: Path) -> list[Entry]:
    """List the images of a folder, and of its subfolders, that match the patterns."""
    images = find(root / config.images, '**/*', (config.image_suffix,), names=config.patterns)
    labels = find(root / config.labels, '**/*', (config.label_suffix,))
    # Side by side in one folder, ``a_labels.png`` is no image, though ``a.png`` is.
    if len(config.label_suffix) > len(config.image_suffix):
        taken = set(labels.by_key.values())
        kept = {key: path for key, path in images.by_key.items() if path not in taken}
        images = replace(images, by_key=kept)
    pairs = pair(
        config.kind,
        images,
        labels,
        mend='add them, or mend `image_suffix` and `label_suffix`',
        every_label=False,
    )
    return [Entry(image, labels, key, key) for key, image, labels in pairs]


def _in_folders(
    kind: str,
    root: Path,
    variants: tuple[Folders, ...],
    *,
    names: Sequence[str] = ('*',),
    every_image: bool = True,
    every_label: bool = True,
) -> list[Entry]:
    """List by the first variant of a layout whose folders are there."""
    for variant in variants:
        if (root / variant.images).is_dir() and (root / variant.labels).is_dir():
            break
    else:
        wanted = ' or '.join(f'{v.images}/ with {v.labels}/' for v in variants)
        raise MultishiftError(f'{kind}: {root} does not hold {wanted}: {MEND_ROOT}')
    pairs = pair(
        kind,
        find(root / variant.images, '**/*', variant.image_ends, key=_key, names=names),
        find(root / variant.labels, '**/*', variant.label_ends, key=_key),
        mend=_UNPACK,
        every_image=every_image,
        every_label=every_label,
    )
    return [Entry(image, labels, key, key) for key, image, labels in pairs]


def _bases(kind: str, wanted: dict[str, str], originals: Files) -> dict[str, Path]:
    """Return the original image of each difference; ``wanted`` has its key among the originals.

    Raises:
        MultishiftError: originals are missing.
    """
    missing = {key for key in wanted.values() if key not in originals.by_key}
    if missing:
        raise MultishiftError(
            f'{kind}: its images are changes to other images, and {some(missing)} of those '
            f'{len(wanted)} are not in {originals.folder}: mend `originals`'
        )
    return {key: originals.by_key[base] for key, base in wanted.items()}


def _key(path: str) -> str:
    """Return the name of an image in whatever way a copy of a benchmark numbers and ends it.

    ``0003_04_Maurener_Weg_8_000000_000030_labels`` and, in a folder of its city,
    ``04_Maurener_Weg_8_000000_000030_leftImg8bit`` are the same image.
    """
    name = re.sub(r'_(leftImg8bit|labels|rgb)$', '', path.rpartition('/')[2])
    return re.sub(r'^\d{4}_(?=.+_\d{6}_\d{6}$)', '', name)
