# SPDX-License-Identifier: Apache-2.0
"""Many bags: totals, sharing, resuming, faults."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from click.testing import CliRunner, Result
import pytest

from multishift_perception.bags import BagReader
from multishift_perception.cli.main import multishift
from multishift_perception.engine import Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.fleet.run import Task, replay_fleet
from multishift_perception.fleet.sources import Source, find_bags
from multishift_perception.metrics import Grouped
from multishift_perception.outputs import NODE, Output
from multishift_perception.replay import Replay, Settings
from multishift_perception.report.drive_counts import DriveCounts
from multishift_perception.report.drive_evaluation import scores
from multishift_perception.report.fleet_report import FleetReport, fleet_metrics

SHARER = Path(__file__).with_name('sharing_rank.py')
SETTINGS = Settings(latency_ms=150.0, camera_height=1.5)


def task(drives: Path, bundle: Path, out: Path, **others: Any) -> Task:
    return Task(
        tuple(find_bags([str(drives)])),
        out,
        SETTINGS,
        bundle=bundle,
        backend='openvino',
        **others,
    )


def figures(report: FleetReport | None) -> dict[str, Any]:
    """Return all figures but durations."""
    assert report is not None
    found = fleet_metrics(report)
    for bag in found['bags'].values():
        del bag['latency_ms']
    keys = ('overall', 'conditions', 'cameras', 'bags', 'failed')
    return {key: found[key] for key in keys}


def some(drives: Path, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        shutil.copy2(drives / name, folder / name)
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(multishift, ['replay', *map(str, arguments)], catch_exceptions=False)


def begun(out: Path) -> dict[str, int]:
    """Return when each bag was done."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob('bags/*/bag.json')}


def test_totals_are_metrics_of_all_frames_together(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    report = replay_fleet(task(bags, tiny_bundle, tmp_path / 'out'))
    assert report is not None

    groups: Grouped[Any, DriveCounts] = Grouped(lambda: DriveCounts(3))
    with Engine.load(tiny_bundle, backend='openvino') as engine:
        for bag in find_bags([str(bags)]):
            with BagReader(bag.path) as reader:
                for key, counts in Replay(reader, engine, SETTINGS).run().groups.items():
                    groups[key].merge(counts)
    assert report.overall == scores('all', groups.merged())
    assert report.overall.frames == 12
    assert [s.name for s in report.conditions] == ['day', 'fog']
    assert [s.name for s in report.cameras] == ['front', 'left']
    assert report.conditions[1] == scores(
        'fog', groups.merged([('front', 'fog'), ('left', 'fog')])
    )
    # It is no mean: the bags differ.
    means = [row.scores.anomaly.ap for row in report.bags]
    assert means[0] != means[1]
    assert report.overall.objects.objects == 4
    assert report.overall.objects.distances == report.overall.objects.found
    page = (tmp_path / 'out/report.html').read_text()
    assert '<th>at</th>' in page
    for row in report.bags:
        assert f'href="{row.link}"' in page
        assert (tmp_path / 'out' / row.folder / 'report.html').exists()


@pytest.mark.slow
def test_three_processes_find_the_same_to_the_last_bit(
    drives: Path, tiny_bundle: Path, tmp_path: Path, plain: None
) -> None:
    bags = some(drives, tmp_path / 'bags', *(f'{seed}.mcap' for seed in range(4)))
    alone = replay_fleet(task(bags, tiny_bundle, tmp_path / 'one'))
    together = replay_fleet(task(bags, tiny_bundle, tmp_path / 'three'), jobs=3)
    assert figures(alone) == figures(together)
    assert alone is not None and len(alone.bags) == 4


@pytest.mark.usefixtures('plain')
def test_the_hosts_of_torchrun_share_the_bags(
    drives: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    todo = task(bags, tiny_bundle, tmp_path / 'out')
    monkeypatch.setenv('WORLD_SIZE', '2')
    first = replay_fleet(todo)
    done = begun(todo.out)
    # The second one comes when all is done: it does nothing, and leaves the report alone.
    monkeypatch.setenv('RANK', '1')
    page = (todo.out / 'report.html').stat().st_mtime_ns
    assert replay_fleet(todo) is None
    assert begun(todo.out) == done and (todo.out / 'report.html').stat().st_mtime_ns == page
    assert first is not None and len(first.bags) == 2
    monkeypatch.setenv('RANK', 'first')
    with pytest.raises(MultishiftError, match='has RANK=first: give a number'):
        replay_fleet(todo)


@pytest.mark.slow
def test_two_ranks_of_torchrun_find_what_one_process_does(
    drives: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('torch')
    bags = some(drives, tmp_path / 'bags', *(f'{seed}.mcap' for seed in range(3)))
    words = ['replay', bags, '--engine', tiny_bundle, '--backend', 'openvino', '--json']
    words += ['--latency-ms', 150, '--camera-height', 1.5, '--out', tmp_path / 'two']
    launcher = ['-m', 'torch.distributed.run', '--nproc-per-node', '2']
    # Both ranks take their part while the other is at work: a bag waits for its partner.
    done = subprocess.run(
        [sys.executable, *launcher, SHARER, tmp_path / 'met', *map(str, words)],
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in (tmp_path / 'met').iterdir()} == {'0', '1'}
    two = json.loads(done.stdout)  # the first rank alone speaks
    monkeypatch.setattr('multishift_perception.report.drive_report.render', lambda report: '')
    alone = replay_fleet(task(bags, tiny_bundle, tmp_path / 'one'))
    assert alone is not None and len(alone.bags) == 3
    for key, value in json.loads(json.dumps(figures(alone))).items():
        if key == 'bags':
            for bag in two[key].values():
                del bag['latency_ms']
        assert two[key] == value


@pytest.mark.usefixtures('plain')
def test_what_is_done_and_unchanged_is_not_done_again(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    todo = task(bags, tiny_bundle, tmp_path / 'out')
    before = figures(replay_fleet(todo))
    first = begun(todo.out)
    assert figures(replay_fleet(todo)) == before
    assert begun(todo.out) == first

    # Killed before a bag was done, another changed, and a third came.
    (todo.out / 'bags/1.mcap/bag.json').unlink()
    os.utime(bags / '2.mcap', ns=(1, 1))
    shutil.copy2(drives / '3.mcap', bags)
    again = replay_fleet(task(bags, tiny_bundle, tmp_path / 'out'))
    assert again is not None and len(again.bags) == 3
    second = begun(todo.out)
    assert second['1.mcap'] != first['1.mcap'] and second['2.mcap'] != first['2.mcap']
    assert {k: v for k, v in figures(again)['bags'].items() if k != '3.mcap'} == before['bags']


@pytest.mark.usefixtures('plain')
def test_other_settings_are_refused_unless_forced(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    out = tmp_path / 'out'
    arguments = [bags, '--engine', tiny_bundle, '--backend', 'openvino', '--out', out]
    assert run(*arguments).exit_code == 0
    first = begun(out)
    with pytest.raises(MultishiftError, match=r'\(threshold changed\).*--force'):
        run(*arguments, '--threshold', '0.6')
    assert begun(out) == first
    assert run(*arguments, '--threshold', '0.6', '--force').exit_code == 0
    assert all(begun(out)[name] != first[name] for name in first)
    # The report of one bag is another thing.
    with pytest.raises(MultishiftError, match='only a report of `multishift replay` is replaced'):
        run(bags / '1.mcap', '--engine', tiny_bundle, '--out', out, '--force')


@pytest.mark.usefixtures('plain')
def test_a_broken_bag_is_named_and_the_others_go_on(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags, out = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap'), tmp_path / 'out'
    (bags / 'broken.mcap').write_bytes(b'no bag')
    arguments = [bags, '--engine', tiny_bundle, '--backend', 'openvino', '--out', out]
    with pytest.raises(MultishiftError, match=r'1 of 3 bags are not judged \(broken\.mcap\)'):
        run(*arguments)
    found = json.loads((out / 'metrics.json').read_text())
    assert list(found['bags']) == ['1.mcap', '2.mcap']
    [(name, reason)] = found['failed'].items()
    assert name == 'broken.mcap' and '\n' not in reason
    assert 'broken.mcap</b> is not judged' in (out / 'report.html').read_text()
    # It is tried again, and the others are not.
    first = begun(out)
    shutil.copy2(drives / '3.mcap', bags / 'broken.mcap')
    result = run(*arguments, '--json')
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads((out / 'metrics.json').read_text())
    assert begun(out)['1.mcap'] == first['1.mcap']

    only = tmp_path / 'only'
    only.mkdir()
    for i in range(2):
        (only / f'{i}.mcap').write_bytes(b'no bag')
    with pytest.raises(MultishiftError, match=r'none of 2 bags can be judged; 0\.mcap: '):
        replay_fleet(task(only, tiny_bundle, tmp_path / 'nothing'))


@pytest.mark.usefixtures('plain')
def test_outputs_are_recorded_beside_the_report(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    record = tmp_path / 'recorded'
    todo = task(bags, tiny_bundle, tmp_path / 'out', record=record)
    replay_fleet(todo)
    assert sorted(p.name for p in record.iterdir()) == ['1.mcap', '2.mcap']
    with BagReader(record / '1.mcap') as reader:
        assert Output.LABELS.topic_of('left', NODE) in reader.topics
    # A bag that was killed after its recording goes on; what others wrote there stays.
    (todo.out / 'bags/1.mcap/bag.json').unlink()
    (record / '.1.mcap.killed.part').mkdir()
    (record / '.1.mcap.killed.part/.replacing').touch()
    replay_fleet(todo)
    assert sorted(p.name for p in record.iterdir()) == ['1.mcap', '2.mcap']
    other = task(bags, tiny_bundle, tmp_path / 'other', record=record)
    with pytest.raises(MultishiftError, match='exists: give --force'):
        replay_fleet(other)


def test_each_bag_is_recorded_to_a_file_of_its_own() -> None:
    names = ('drive', 'drive.mcap', 'a/b.db3')
    todo = Task(tuple(Source(n, Path(n)) for n in names), Path('out'), record=Path('r'))
    found = [todo.recording(source) for source in todo.sources]
    assert found == [Path('r/drive.mcap.mcap'), Path('r/drive.mcap'), Path('r/a%2Fb.db3.mcap')]


@pytest.mark.usefixtures('plain')
def test_names_that_are_no_text_do_not_stop_the_others(
    drives: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bags = some(drives, tmp_path / 'bags', '1.mcap')
    (bags / '1.mcap').rename(bags / 'a\udcff.mcap')
    (bags / 'b\udcff.mcap').write_bytes(b'no bag')
    report = replay_fleet(task(bags, tiny_bundle, tmp_path / 'out'))
    assert report is not None and len(report.bags) == len(report.failed) == 1
    assert r'a\udcff.mcap' in (tmp_path / 'out/report.html').read_text()


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--record', 'x.mcap'], 'takes a folder'),
        (['--record', 'bags/x'], 'whose bags are read'),
        (['--compare', 'nothing'], 'no finished report'),
        (['--compare', 'out'], 'is what is compared with'),
        (['--out', 'bags'], 'which is read'),
    ],
)
def test_faults_are_said_before_anything_is_done(
    drives: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    some(drives, tmp_path / 'bags', '1.mcap', '2.mcap')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MultishiftError, match=words):
        run('bags', '--out', 'out', *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ['bags']
