# SPDX-License-Identifier: Apache-2.0
"""What engines find and miss, and how fast they are: the figures of docs/quality.md.

    python test/benchmark/quality.py --data DATA --out quality --page docs/quality.md
    python test/benchmark/quality.py embedded:openvino embedded:torch my_engine:openvino \
        --data DATA --out quality

An engine is a bundle and a backend; `embedded` is the embedded one. Each is evaluated on all data
sets of config/tests/ and leaves a report with pictures in a folder of its own under `--out`;
`quality.md` there holds the tables, `quality.png` the chart. With `--page` tables and chart of
that page are replaced. What is evaluated is kept in `--out`, for as long as engine and images
stay the same, so that an interrupted run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import re
import shutil
from typing import NamedTuple

import click
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.style

from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.engine.timing import Candidate, Timing, measure
from multishift_perception.metrics import SegmentationResult
from multishift_perception.report.charts import COLORS, STYLE
from multishift_perception.report.provenance import provenance
from multishift_training.datasets import open_validation
from multishift_training.datasets.descriptions import read_datasets
from multishift_training.datasets.presence import check_data
from multishift_training.evaluation.evaluate import DatasetResult, evaluate
from multishift_training.evaluation.progress import Progress
from multishift_training.evaluation.report import EvaluationReport, write_report
from multishift_training.evaluation.tally import ALL, Row
from multishift_training.inference.runners import EngineRunner

_FOLDER = Path(__file__).parents[2] / 'config/tests'
TESTS = (_FOLDER / 'real.yaml', _FOLDER / 'drive.yaml')
NAMES = {
    'drive': 'synthetic streets',
    'camvid_val': 'CamVid val',
    'camvid_dusk': 'CamVid, drive at dusk',
    'idd_lite': 'IDD-Lite, 7 groups',
    'road_anomaly21': 'RoadAnomaly21 val',
    'road_obstacle21': 'RoadObstacle21 val',
    'lums_road': 'LUMS Road val, 3 groups',
}
MARKERS = 'osD^vP*X'


class Subject(NamedTuple):
    """An engine with its figures.

    Attributes:
        name: bundle, backend and precision.
        origin: what it is, in a sentence.
        results: by data set.
        timing: of its calls.
    """

    name: str
    origin: str
    results: tuple[DatasetResult, ...]
    timing: Timing


def own_miou(segmentation: SegmentationResult) -> float | None:
    """Return the mean IoU over the classes, or groups, that occur in the ground truth.

    What is predicted as a class that the data set does not have lowers the IoU of the class that
    is there, and counts for no class of its own.
    """
    pairs = zip(segmentation.iou, segmentation.class_accuracy, strict=True)
    present = [iou for iou, accuracy in pairs if iou is not None and accuracy is not None]
    return sum(present) / len(present) if present else None


def miou(row: Row) -> float | None:
    """Return the mean IoU of a row; None where classes are not labelled."""
    return None if row.segmentation is None else own_miou(row.segmentation)


COLUMNS: dict[str, Callable[[Row], float | None]] = {
    'mIoU': miou,
    'AP': lambda row: row.anomaly.ap,
    'FPR95': lambda row: row.anomaly.fpr95,
    'found': lambda row: row.operating.tpr,
    'false alarms': lambda row: row.operating.fpr,
}
HEADLINES = ('mIoU', 'AP')


def percent(value: float | None) -> str:
    """Return a fraction in %, a dash for None."""
    return '–' if value is None else f'{100 * value:.1f}'


def rows_of(result: DatasetResult) -> list[tuple[str, Row]]:
    """Return the rows of a data set with their conditions; one row where there is one."""
    *parts, whole = result.rows
    if len(parts) > 1:
        return [(row.condition.replace('_', ' '), row) for row in result.rows]
    return [(parts[0].condition if parts else '–', whole)]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ['---'] * len(heads), *rows]
    return '\n'.join('| ' + ' | '.join(cells) + ' |' for cells in lines)


def by_test(subject: Subject) -> str:
    """Return an engine's figures by data set and condition."""
    rows = [
        [
            NAMES.get(result.name, result.name),
            condition,
            str(row.images),
            *(percent(figure(row)) for figure in COLUMNS.values()),
        ]
        for result in subject.results
        for condition, row in rows_of(result)
    ]
    heads = ['test', 'condition', 'images', *COLUMNS]
    return f'{subject.origin}\n\n{table(heads, rows)}'


def headlines(subject: Subject) -> dict[tuple[str, str], float]:
    """Return one or two figures of each data set, fractions, by data set and measure."""
    found = {}
    for result in subject.results:
        whole = next(row for row in result.rows if row.condition == ALL)
        for measure_name in HEADLINES:
            if (value := COLUMNS[measure_name](whole)) is not None:
                found[NAMES.get(result.name, result.name), measure_name] = value
    return found


def by_engine(subjects: Sequence[Subject]) -> str:
    """Return latency and quality of every engine."""
    keys = list(headlines(subjects[0]))
    heads = ['engine', 'median ms', 'CPU ms', *(f'{test}: {name}' for test, name in keys)]
    rows = [
        [
            subject.name,
            f'{1e3 * subject.timing.percentile(50):.1f}',
            f'{1e3 * subject.timing.cpu_per_frame:.1f}',
            *(percent(headlines(subject)[key]) for key in keys),
        ]
        for subject in subjects
    ]
    return table(heads, rows)


def chart(subjects: Sequence[Subject], path: Path) -> None:
    """Draw quality against latency as PNG: a colour for each test, a marker for each engine."""
    with matplotlib.style.context({**STYLE, 'axes.grid.axis': 'both'}):
        figure = Figure(figsize=(9.6, 3.6), layout='constrained')
        panels = figure.subplots(1, len(HEADLINES))
        tests = list(dict.fromkeys(test for test, _ in headlines(subjects[0])))
        colors = dict(zip(tests, [*COLORS, '#c9a227', '#17a2a2'], strict=False))
        for axes, name in zip(panels, HEADLINES, strict=True):
            for subject, marker in zip(subjects, MARKERS, strict=False):
                place = 1e3 * subject.timing.percentile(50)
                for (test, measured), value in headlines(subject).items():
                    if measured == name:
                        axes.plot(place, 100 * value, marker, color=colors[test], markersize=7)
            axes.set(xlabel='median of a call, ms', ylabel=f'{name}, %', ylim=(0, 100))
            axes.set_xlim(left=0)
            axes.margins(x=0.15)
        handles = [
            *(Line2D([], [], color=c, linewidth=4, label=test) for test, c in colors.items()),
            *(
                Line2D([], [], color='#1f2933', marker=m, linestyle='', label=subject.name)
                for subject, m in zip(subjects, MARKERS, strict=False)
            ),
        ]
        figure.legend(handles=handles, loc='outside right upper', frameon=False, fontsize=8)
        figure.savefig(path, dpi=110)


def put(page: str, name: str, text: str) -> str:
    """Return a page with what is between its marks of a name replaced.

    Raises:
        click.ClickException: the page does not have both marks.
    """
    start, end = f'<!-- {name} -->', f'<!-- end of {name} -->'
    pattern = re.compile(f'{re.escape(start)}.*?{re.escape(end)}', re.DOTALL)
    if not pattern.search(page):
        raise click.ClickException(f'the page lacks the lines {start} and {end}: add them')
    return pattern.sub(lambda _: f'{start}\n\n{text}\n\n{end}', page)


def judged(bundle: Path, backend: str, data: Path, out: Path) -> tuple[str, str, tuple]:
    """Evaluate an engine on all tests, with a report; return its name, origin and results."""
    descriptions = read_datasets(TESTS)
    for description in descriptions.values():
        check_data(description, data)
    opened = {
        name: open_validation(description, root=data, cache=out / 'cache')
        for name, description in descriptions.items()
    }
    described = {k: d.model_dump(mode='json', exclude_none=True) for k, d in descriptions.items()}
    with Engine.load(bundle, backend=backend) as engine:
        precision = engine.manifest.artifact(backend).precision
        name = f'{engine.name}, {backend} {precision}'
        folder = out / re.sub(r'\W+', '_', name)
        origin = provenance(engine)
        same = {key: value for key, value in origin.items() if key != 'created'}
        progress = Progress(out / 'cache' / folder.name, {'subject': same, 'tests': described})
        runner = EngineRunner(engine)
        results = evaluate(opened, runner, progress=progress)
        report = EvaluationReport(
            name, runner.classes, runner.scores, results, described, None, origin
        )
        print(write_report(report, folder))
        _, height, width = engine.input_shape
        about = (
            f'Of `{name}`: `{engine.manifest.model}`, {width} x {height}, manifest SHA-256 '
            f'`{engine.digest[:12]}`. Figures in %.'
        )
    return name, about, results


@click.command()
@click.argument('engines', metavar='[BUNDLE:BACKEND]...', nargs=-1, default=('embedded:openvino',))
@click.option('--data', type=click.Path(path_type=Path), required=True)
@click.option('--out', type=click.Path(path_type=Path), required=True)
@click.option('--page', type=click.Path(path_type=Path, exists=True))
@click.option('--seconds', default=5.0, show_default=True, help='How long each is timed.')
def main(
    engines: tuple[str, ...], data: Path, out: Path, page: Path | None, seconds: float
) -> None:
    """Evaluate and time engines; write tables and chart. The first one's figures go by test."""
    chosen = []
    for engine in engines:
        bundle, colon, backend = engine.rpartition(':')
        if not colon:
            raise click.UsageError(f'{engine}: expected BUNDLE:BACKEND, such as {engine}:openvino')
        chosen.append((EMBEDDED_BUNDLE if bundle == 'embedded' else Path(bundle), backend))
    found = [judged(bundle, backend, data, out) for bundle, backend in chosen]
    timings = measure([Candidate(*engine) for engine in chosen], seconds=seconds)
    subjects = [Subject(*parts, timing) for parts, timing in zip(found, timings, strict=True)]
    tests, compared = by_test(subjects[0]), by_engine(subjects)
    (out / 'quality.md').write_text(f'{tests}\n\n{compared}\n')
    chart(subjects, out / 'quality.png')
    print(f'{tests}\n\n{compared}')
    if page is not None:
        text = put(put(page.read_text(), 'tests', tests), 'engines', compared)
        page.write_text(text)
        shutil.copyfile(out / 'quality.png', page.with_suffix('.png'))


if __name__ == '__main__':
    main()
