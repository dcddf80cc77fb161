# SPDX-License-Identifier: Apache-2.0
"""No process of ours contacts anyone: what libraries would report or ask for is switched off."""

from __future__ import annotations

import os
import sys


def stay_offline() -> None:
    """Switch off what libraries do by themselves; for this process, before it imports them.

    The package calls it when it is imported, so that no import of ours can come before it. What
    loads files of Hugging Face is told so at each call (``local_files_only``), and sets nothing:
    a program that uses this package may well download such files itself.
    """
    # OpenVINO and NNCF look up a statistics host when they are imported, and write an identity
    # into the home folder. Both do without where this package of theirs is missing.
    sys.modules.setdefault('openvino_telemetry', None)  # type: ignore[arg-type]  # "is missing"
    # albumentations asks for a newer version of itself when it is imported.
    os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')
