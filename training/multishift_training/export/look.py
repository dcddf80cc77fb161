# SPDX-License-Identifier: Apache-2.0
"""Fits how the images look that a network knows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from multishift_perception.engine import Look
from multishift_perception.progress import track
from multishift_training.datasets import ValidationSet, validation_loader
from multishift_training.export.deploy_graph import DeployGraph


@torch.inference_mode()
def fit_look(graph: DeployGraph, domains: Mapping[str, ValidationSet]) -> Look:
    """Fit the statistics that a deploy graph gives, of each domain.

    Args:
        graph: the graph.
        domains: frames of the engine's size, by name.

    Raises:
        MultishiftError: a domain has too few frames.
    """
    statistics = {}
    for name, frames in domains.items():
        loader = validation_loader(frames)
        batches = track(loader, f'look of {name}', unit='batch', leave=False)
        statistics[name] = np.concatenate([graph.look(images).numpy() for images, _ in batches])
    return Look.fit(statistics)
