# SPDX-License-Identifier: Apache-2.0
"""Which training detects unknown objects and keeps its labels in another domain?

    python test/benchmark/shifts.py EXPERIMENT.yaml --data DATA --out runs/shifts

For each seed one closed world is trained, then fine-tuned in each of the ways that the experiment
names; all are evaluated on the same data sets. Partners called ``generated`` come from
`multishift augment`, which is run first. A killed experiment goes on where it was. What it prints
is a Markdown table of means over the seeds, with the least and the largest.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
from pathlib import Path
from typing import Any

import click

from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_text
from multishift_perception.schema.yaml_files import read_typed
from multishift_training.augmentation.config import read_config
from multishift_training.augmentation.run import augment
from multishift_training.checkpoints.trained import open_trained
from multishift_training.datasets import open_validation
from multishift_training.evaluation.evaluate import evaluate
from multishift_training.inference.runners import NetworkRunner
from multishift_training.loop.config import TrainConfig
from multishift_training.loop.experiments import Experiment, GeneratedPartners
from multishift_training.loop.train import train

# Of the closed world, whose uncertainty head was never trained.
POST_HOC = ('max_softmax', 'energy')

# Method, part of the tests (data set, condition) -> metrics of each seed.
Table = dict[tuple[str, str], list[dict[str, float]]]


def configured(settings: TrainConfig, seed: int, generated: Path, **more: Any) -> TrainConfig:
    """Return the training configuration of a seed, with generated partners put in."""
    content = settings.model_dump(mode='json')
    if isinstance(settings.data.partners, GeneratedPartners):
        content['data']['partners'] = {'kind': 'multishift_cityscapes', 'root': str(generated)}
    return TrainConfig.model_validate({**content, **more, 'seed': seed})


def measured(
    best: Path, experiment: Experiment, scores: Sequence[str], root: Path, cache: Path
) -> dict[str, dict[str, dict[str, float]]]:
    """Return metrics by score and part of the tests; kept beside the weights."""
    kept = best.with_name('shifts.json')
    if kept.exists():
        return json.loads(kept.read_text())
    model, origin = open_trained(best)
    tests = {
        name: open_validation(test, root=root, cache=cache, size=origin.run.engine_size)
        for name, test in experiment.tests.items()
    }
    found: dict[str, dict[str, dict[str, float]]] = {score: {} for score in scores}
    for result in evaluate(tests, NetworkRunner(model, scores)):
        for row in result.rows:
            found[row.score][f'{result.name}, {row.condition}'] = {
                'AP': row.anomaly.ap,
                'FPR95': row.anomaly.fpr95,
                'mIoU': row.segmentation.miou,
            }
    write_text(kept, json.dumps(found))
    return found


def run_seed(experiment: Experiment, seed: int, root: Path, out: Path, table: Table) -> None:
    """Train and measure everything for a seed, and add it to the table."""
    folder, cache, generated = out / f'seed_{seed}', out / 'cache', (out / 'generated').resolve()
    closed = train(
        configured(experiment.closed_world, seed, generated), folder / 'closed_world', root=root
    )
    for score, parts in measured(closed, experiment, POST_HOC, root, cache).items():
        for part, metrics in parts.items():
            table.setdefault((f'closed world, {score}', part), []).append(metrics)
    for name, settings in experiment.fine_tuning.items():
        config = configured(settings, seed, generated, weights=str(closed.resolve()))
        best = train(config, folder / name.replace(', ', '_').replace(' ', '_'), root=root)
        found = measured(best, experiment, ('uncertainty',), root, cache)['uncertainty']
        for part, metrics in found.items():
            table.setdefault((name, part), []).append(metrics)


def shown(table: Table, tests: Sequence[str]) -> str:
    """Return the table in Markdown: a row for each method, grouped by part of the tests."""
    lines = ['| test | method | AP | FPR95 | mIoU |', '|---|---|---|---|---|']
    parts = list(dict.fromkeys(part for _, part in table))
    for test in tests:  # a single condition says what all say
        of_test = [part for part in parts if part.rpartition(', ')[0] == test]
        if len(of_test) == 2:
            parts.remove(of_test[0])
    for part in parts:
        for (method, of), seeds in table.items():
            if of == part:
                cells = ' | '.join(_spread([s[m] for s in seeds]) for m in seeds[0])
                lines.append(f'| {part} | {method} | {cells} |')
    return '\n'.join(lines)


def _spread(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    return f'{100 * mean:.1f} ({100 * min(values):.1f} to {100 * max(values):.1f})'


@click.command()
@click.argument('experiment', type=click.Path(path_type=Path, exists=True))
@click.option('--data', type=click.Path(path_type=Path, exists=True), default=Path())
@click.option('--out', type=click.Path(path_type=Path), required=True)
@click.option('--seeds', type=click.IntRange(min=1), default=3, show_default=True)
def main(experiment: Path, data: Path, out: Path, seeds: int) -> None:
    """Run the experiment that a YAML file describes."""
    settings = read_typed(experiment, Experiment, 'an experiment')
    partners = [way.data.partners for way in settings.fine_tuning.values()]
    if any(isinstance(partner, GeneratedPartners) for partner in partners):
        if settings.augmentation is None:
            raise MultishiftError(f'{experiment}: generated partners want `augmentation`: set it')
        augment(read_config(settings.augmentation), out / 'generated', root=data)
    table: Table = {}
    for seed in range(seeds):
        run_seed(settings, seed, data, out, table)
        click.echo(shown(table, tuple(settings.tests)))


if __name__ == '__main__':
    main()
