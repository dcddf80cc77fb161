# SPDX-License-Identifier: Apache-2.0
"""The generators, by their configuration."""

from __future__ import annotations

from pathlib import Path

from multishift_training.augmentation.config import (
    ControlNetGenerator,
    GeneratorConfig,
    PastedWeatherGenerator,
    ProceduralGenerator,
)
from multishift_training.augmentation.parts import Generator


def open_generator(config: GeneratorConfig, root: Path) -> Generator:
    """Return a generator.

    Args:
        config: which one.
        root: folder that relative paths of weights start from.

    Raises:
        MultishiftError: weights are missing or broken, or what a generator needs is not
            installed.
    """
    # Imported where it is wanted: diffusers takes seconds, and not everybody has it.
    match config:
        case ControlNetGenerator():
            from multishift_training.augmentation.controlnet import ControlNet

            folders = {'base': root / config.base, 'controlnet': root / config.controlnet}
            return ControlNet(config.model_copy(update=folders))
        case ProceduralGenerator():
            from multishift_training.augmentation.procedural import Procedural

            return Procedural(config)
        case PastedWeatherGenerator():
            from multishift_training.augmentation.pasted_weather import PastedWeather

            return PastedWeather()
