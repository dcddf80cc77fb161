# SPDX-License-Identifier: Apache-2.0
"""Draws the styles of several domains before and after style projection (Huang et al., CVPR 2023).

    python test/benchmark/styles.py CHECKPOINT DATASETS.yaml --data DATA --out styles.png

CHECKPOINT is of a network that projects styles (method `spc`); DATASETS describes a data set for
each domain, as for `multishift evaluate`. A style is mean and deviation of each channel of an
image at a projection; the picture shows the two directions in which styles differ most, the same
ones before and after. The printed figure says how often the nearest other style is of the same
domain: what is left of a domain's look, chance being the share of its images.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from matplotlib.figure import Figure
import matplotlib.style
import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
import torch

from multishift_perception.progress import track
from multishift_perception.report.charts import COLORS, STYLE
from multishift_training.checkpoints.trained import open_trained
from multishift_training.datasets import ValidationData, open_validation
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.models import SegmentationModel
from multishift_training.models.input_scale import Normalize
from multishift_training.models.style_projection import StyleProjection, style_of

_MARKERS = 'osD^vP'


def styles_of(
    model: SegmentationModel, images: Iterator[torch.Tensor]
) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the styles before and after each projection, by its name, ``[N,2C]`` each."""
    found: dict[str, tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
    projections = {n: m for n, m in model.named_modules() if isinstance(m, StyleProjection)}
    for name, projection in projections.items():
        both = found[name] = ([], [])

        def keep(module: object, inputs: tuple, output: torch.Tensor, both: tuple = both) -> None:
            for kept, x in zip(both, (inputs[0], output), strict=True):
                kept.append(torch.cat(style_of(x.float()), 1)[0])

        projection.register_forward_hook(keep)
    normalize = Normalize(model.input_scale)
    with torch.inference_mode():
        for image in images:
            model(normalize(image[None]))
    return {
        name: (torch.stack(before).numpy(), torch.stack(after).numpy())
        for name, (before, after) in found.items()
    }


def purity(styles: NDArray[np.float32], domains: NDArray[np.int_]) -> float:
    """Return how often the nearest other style is of the same domain."""
    nearest = KNeighborsClassifier(1)
    return float(cross_val_score(nearest, styles, domains, cv=LeaveOneOut()).mean())


@click.command(help=__doc__)
@click.argument('checkpoint', type=click.Path(path_type=Path))
@click.argument('datasets', type=click.Path(path_type=Path))
@click.option('--data', type=click.Path(path_type=Path), default=Path())
@click.option('--out', type=click.Path(path_type=Path), required=True)
@click.option('--count', default=40, help='Images of each domain, at most, at even steps.')
def main(checkpoint: Path, datasets: Path, data: Path, out: Path, count: int) -> None:
    """Draw them."""
    if out.exists():
        raise click.ClickException(f'{out} exists: give another file with --out')
    model, origin = open_trained(checkpoint, root=data)
    if not any(isinstance(module, StyleProjection) for module in model.modules()):
        raise click.ClickException(f'{checkpoint} projects no styles: train it by method spc')
    descriptions = read_datasets([datasets])
    domains: list[int] = []
    size = origin.run.engine_size

    def images() -> Iterator[torch.Tensor]:
        for domain, (name, described) in enumerate(descriptions.items()):
            described = ValidationData(images=described.images)
            opened = open_validation(described, root=data, cache=out.parent / 'cache', size=size)
            places = np.unique(np.linspace(0, len(opened) - 1, count).astype(int))
            for place in track(places.tolist(), name, unit='image', leave=False):
                domains.append(domain)
                yield opened[place][0]

    styles = styles_of(model, images())
    of = np.array(domains)
    with matplotlib.style.context({**STYLE, 'axes.grid.axis': 'both'}):
        figure = Figure(figsize=(8, 3.6 * len(styles)), layout='constrained')
        panels = figure.subplots(len(styles), 2, squeeze=False, sharex='row', sharey='row')
        for row, (name, both) in zip(panels, styles.items(), strict=True):
            scale = StandardScaler().fit(np.concatenate(both))
            axes_of = PCA(2).fit(scale.transform(np.concatenate(both)))
            for axes, side, found in zip(row, ('before', 'after'), both, strict=True):
                scaled = scale.transform(found)
                share, spread = purity(scaled, of), float(scaled.std(0).mean())
                click.echo(
                    f'{name}, {side}: nearest style of the same domain {100 * share:.1f} %, '
                    f'mean deviation {spread:.4f}'
                )
                at = axes_of.transform(scaled)
                for domain, (label, color) in enumerate(zip(descriptions, COLORS, strict=False)):
                    x, y = at[of == domain].T
                    marker = _MARKERS[domain % len(_MARKERS)]
                    axes.plot(x, y, marker, color=color, alpha=0.6, markersize=5, label=label)
                axes.set_title(
                    f'{name}, {side}\n{100 * share:.0f} % nearest to their own domain', fontsize=10
                )
        panels[0, 0].legend(frameon=False)
        figure.savefig(out, dpi=110)
    click.echo(out)


if __name__ == '__main__':
    main()
