# SPDX-License-Identifier: Apache-2.0
"""A bundle with another calibration: the same artifacts and probe frames, another manifest."""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any

from multishift_perception.engine import (
    Calibration,
    Look,
    LookEntry,
    Manifest,
    read_manifest,
    write_manifest,
)
from multishift_perception.engine.engine import file_faults
from multishift_perception.errors import MultishiftError
from multishift_perception.files import remove_leftovers, replacing, sha256

_LOOK = 'look.npz'


def built_calibration(manifest: Manifest) -> Calibration:
    """Return the calibration that the bundle was built with, whatever was set since."""
    return manifest.compiled_calibration or manifest.calibration


def write_calibrated(
    bundle: Path,
    out: Path,
    calibration: Calibration,
    provenance: dict[str, Any],
    look: Look | None = None,
) -> Manifest:
    """Write a copy of a bundle with another calibration, atomically.

    Parities stay what they are: they are of labels and raw scores.

    Args:
        bundle: the bundle to copy.
        out: directory to write; an older bundle there is replaced as a whole.
        calibration: of the copy.
        provenance: where that comes from; stands under ``calibration`` in the manifest's own.
        look: how frames look where it comes from; None leaves what the bundle has.

    Raises:
        MultishiftError: a file of the bundle is missing or has changed; nothing is written.
    """
    manifest = read_manifest(bundle)
    update = {
        'calibration': calibration,
        'compiled_calibration': built_calibration(manifest),
        'provenance': {**manifest.provenance, 'calibration': provenance},
    }
    remove_leftovers(out)
    with replacing(out) as fresh:
        fresh.mkdir()
        for name in manifest.hashes:
            if (bundle / name).is_file():
                shutil.copyfile(bundle / name, fresh / name)
        for fault in file_faults(fresh, manifest.hashes):
            raise MultishiftError(fault.replace(str(fresh), str(bundle)))
        if look is not None:
            look.save(fresh / _LOOK)
            entry = LookEntry(
                file=_LOOK, sha256=sha256(fresh / _LOOK), dataset=calibration.dataset
            )
            update['look'] = entry
        new = manifest.model_copy(update=update)
        write_manifest(fresh, new)
    return new
