# SPDX-License-Identifier: Apache-2.0
"""What stops a run: one line that says what to mend, and nothing lost."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
import logging
from pathlib import Path
import signal
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
import torch
import yaml

from multishift_perception import files
from multishift_perception.errors import MultishiftError
from multishift_perception.process.signals import Stopped, ended_by_signals
from multishift_training.checkpoints import trained
from multishift_training.checkpoints.imagenet import find_imagenet_weights
from multishift_training.checkpoints.key_matching import OWN
from multishift_training.checkpoints.reading import read_weights
from multishift_training.datasets import ValidationSet
from multishift_training.loop import train as training
from multishift_training.loop.config import TrainConfig, read_config
from multishift_training.loop.network import adapted_first, make_model
from multishift_training.loop.run_folder import RunFolder, State, check_run_folder
from multishift_training.loop.train import train
from multishift_training.methods import METHODS

Content = dict[str, Any]

pytestmark = pytest.mark.usefixtures('one_thread')


def fault(config: Content, folder: Path, root: Path = Path()) -> str:
    """Return the one line that a run ends with."""
    with pytest.raises(MultishiftError) as caught:
        train(TrainConfig.model_validate(config), folder, root=root)
    message = str(caught.value)
    assert '\n' not in message
    return message


@pytest.fixture(scope='module')
def short(content: Callable[..., Content], stages: dict[str, Content]) -> Content:
    """Two steps of the uncertainty head, then two of the features."""
    return content(stages=[stages['uncertainty'], stages['features']])


@pytest.fixture(scope='module')
def whole(short: Content, new_folder: Callable[[], Path]) -> Path:
    """A run that nothing stopped."""
    folder = new_folder()
    train(TrainConfig.model_validate(short), folder, root=Path())
    return folder


@pytest.mark.slow
def test_loss_that_is_no_number(
    short: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    step = training._Training._step

    def spoil(self: object, *arguments: object, **options: object) -> None:
        batches.append(arguments[4])
        if len(batches) == 4:
            with torch.no_grad():
                self._model.classifier.weight[3, 5] = float('nan')  # type: ignore[attr-defined]
        step(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(training._Training, '_step', spoil)
    message = fault(short, folder)
    assert message.startswith('stage features, epoch 1, batch 2: the loss is not finite (')
    assert 'cross_entropy_original nan, cross_entropy_augmented nan)' in message
    assert 'contrastive' not in message
    kept = folder / 'bad_batch_0.safetensors'
    assert str(kept) in message
    found = load_file(kept)
    assert found.keys() == {'images', 'labels', 'domains'}
    assert torch.equal(found['images'], batches[3][0])
    assert torch.equal(found['labels'], batches[3][1])
    # What was saved is of before: the run goes on from there.
    state = torch.load(folder / 'last.pt', weights_only=True)
    assert (state['epoch'], state['step']) == (1, 1)
    assert all(x.isfinite().all() for x in state['model'].values())
    monkeypatch.undo()
    train(TrainConfig.model_validate(short), folder, root=Path())
    assert len((folder / 'log.jsonl').read_text().splitlines()) == 2


@pytest.mark.parametrize('where', ['loss', 'gradient', 'weights'])
def test_fault_is_laid_at_its_own_batch(
    where: str,
    content: Callable[..., Content],
    stages: dict[str, Content],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Figures are read a step late, and saved states are far apart."""
    batches = []
    step = training._Training._step

    def spoil(self: object, *arguments: object, **options: object) -> None:
        batches.append(arguments[4])
        weight = self._model.classifier.weight  # type: ignore[attr-defined]
        hook = None
        if len(batches) == 2 and where == 'loss':
            weight.data[3, 5] = float('nan')
        elif len(batches) == 2 and where == 'gradient':
            hook = weight.register_hook(lambda gradient: gradient * float('inf'))
        elif len(batches) == 2:
            arguments[1].param_groups[0]['lr'] = float('inf')  # type: ignore[attr-defined]
        step(self, *arguments, **options)  # type: ignore[arg-type]
        if hook is not None:
            hook.remove()

    monkeypatch.setattr(training._Training, '_step', spoil)
    config = content(batch_size=2, checkpoint_steps=100, stages=[stages['closed_world']])
    message = fault(config, folder)
    words = {
        'loss': 'the loss is not finite (cross_entropy nan)',
        'gradient': 'the gradient is not finite (norm of the gradient ',
        'weights': 'the weights are not finite (norm of the weights ',
    }
    assert message.startswith(f'stage closed_world, epoch 1, batch 2: {words[where]}')
    assert len(batches) == 3
    found = load_file(folder / 'bad_batch_0.safetensors')
    assert torch.equal(found['images'], batches[1][0])
    assert not (folder / 'last.pt').exists()


@contextmanager
def full_disk(path: Path) -> Iterator[Path]:
    """Stand in for `replacing` on a disk without room: the kernel's own device for that."""
    yield Path('/dev/full')
    raise AssertionError('was written')


@pytest.mark.slow
@pytest.mark.parametrize(
    'where', ['state', 'best weights', 'log', 'configuration', 'bad batch', 'curves']
)
def test_full_disk(
    where: str, short: Content, whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.model_validate(short)
    if where != 'configuration':

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        # Up to the end of the first epoch.
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr('multishift_training.loop.train.validate', stop)
            train(config, folder, root=Path())
    if where == 'state':
        monkeypatch.setattr('multishift_training.loop.run_folder.replacing', full_disk)
    elif where == 'curves':

        def add(*_: object) -> None:
            Path('/dev/full').write_bytes(b'curve')

        monkeypatch.setattr('multishift_training.loop.train.Board.add', add)
    else:
        writer = {
            'best weights': 'multishift_training.checkpoints.trained.write_bytes',
            'log': 'multishift_training.loop.run_folder.write_text',
            'configuration': 'multishift_training.loop.run_folder.write_text',
            'bad batch': 'multishift_training.loop.run_folder.write_bytes',
        }[where]
        original = files.write_text if writer.endswith('text') else files.write_bytes

        def write(path: Path, data: object) -> None:
            if (path.name == 'config.yaml') != (where == 'configuration'):
                original(path, data)  # type: ignore[arg-type]
                return
            with monkeypatch.context() as patch:
                patch.setattr(files, 'replacing', full_disk)
                original(path, data)  # type: ignore[arg-type]

        monkeypatch.setattr(writer, write)
    if where == 'bad batch':
        monkeypatch.setattr(
            'multishift_training.methods.multishift.MultiShift.losses',
            lambda _, prediction, *__: {'loss': prediction.score.sum() * float('inf')},
        )
    message = fault(short, folder)
    assert str(folder) in message
    assert 'no room on the disk' in message
    monkeypatch.undo()
    if where != 'configuration':
        state = RunFolder(folder, config, writes=False).load()
        assert (state.epoch, state.step) in {(0, 2), (1, 0)}
    train(config, folder, root=Path())
    assert (folder / 'log.jsonl').read_text() == (whole / 'log.jsonl').read_text()


def test_full_disk_that_torch_hides(
    short: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        # As its writer does: it goes on after the error, and fails at something else.
        try:
            Path('/dev/full').write_bytes(b'weights')
        finally:
            raise RuntimeError('unexpected pos 768 vs 662')

    monkeypatch.setattr(torch, 'save', save)
    assert 'no room on the disk' in fault(short, folder)


def test_first_state_that_finds_no_room_claims_nothing(
    short: Content,
    folder: Path,
    small_files: Callable[[int], AbstractContextManager[None]],
) -> None:
    with small_files(100_000):
        assert fault(short, folder) == (
            f'{folder} cannot be written: no room on the disk; free some and start again, it goes '
            'on where it was saved last'
        )
    assert {p.name for p in folder.glob('[!e]*')} == {'cache', 'lock'}
    other = {**short, 'seed': 5}
    check_run_folder(folder)
    run = RunFolder(folder, TrainConfig.model_validate(other), writes=True)
    run.save(State())
    assert read_config(folder / 'config.yaml').seed == 5
    check_run_folder(folder)
    assert 'another configuration' in fault(short, folder)


def test_folder_of_something_else_is_refused(short: Content, tmp_path: Path) -> None:
    augmented = tmp_path / 'augmented'
    augmented.mkdir()
    (augmented / 'config.yaml').write_text('images: {}')
    papers = tmp_path / 'papers'
    papers.mkdir()
    (papers / 'a.pdf').touch()
    for path in (augmented, papers, papers / 'a.pdf', papers / 'a.pdf/run'):
        assert 'give another folder with --out' in fault(short, path)
    assert [p.name for p in papers.iterdir()] == ['a.pdf']
    assert [p.name for p in augmented.iterdir()] == ['config.yaml']


def test_what_killed_writers_left_is_removed(short: Content, folder: Path) -> None:
    for name in ('last.pt', 'best.safetensors', 'log.jsonl', 'config.yaml'):
        (folder / f'.{name}.half.part').mkdir()
        (folder / f'.{name}.half.part' / name).write_bytes(b'half')
        # The mark of what was being written.
        (folder / f'.{name}.half.part' / '.replacing').touch()
    (folder / '.mine').write_text('kept')
    config = TrainConfig.model_validate(short)
    RunFolder(folder, config, writes=False)
    assert len(list(folder.glob('.*.half.part'))) == 4
    RunFolder(folder, config, writes=True)
    assert {path.name for path in folder.iterdir()} == {'.mine', 'cache'}


class Signalling:
    """Gets a signal to end while it is saved."""

    def __reduce__(self) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return OrderedDict, ()


def test_signal_amid_a_save_waits_until_the_state_is_whole(short: Content, folder: Path) -> None:
    run = RunFolder(folder, TrainConfig.model_validate(short), writes=True)
    with ended_by_signals():
        with pytest.raises(Stopped):
            run.save(State(epoch=3, model={'weights': Signalling()}))
    assert run.load().epoch == 3


def test_fault_that_is_no_full_disk_keeps_its_name(
    short: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(*_: object) -> None:
        raise RuntimeError('a defect')

    monkeypatch.setattr(torch, 'save', save)
    with pytest.raises(RuntimeError, match='a defect'):
        train(TrainConfig.model_validate(short), folder, root=Path())


def flip(data: bytearray, place: int) -> bytearray:
    data[place] ^= 0x10
    return data


@pytest.mark.parametrize(
    'damage',
    [
        lambda data: data[:-300],
        lambda data: data[: len(data) // 2],
        lambda data: data[:0],
        lambda data: b'no state',
        lambda data: flip(data, len(data) // 2),  # in the midst of a weight
        lambda data: flip(data, 300),
    ],
    ids=['cut', 'half', 'empty', 'text', 'weight', 'head'],
)
def test_damaged_state(damage: Callable[[bytearray], bytes], short: Content, folder: Path) -> None:
    config = TrainConfig.model_validate(short)
    run = RunFolder(folder, config, writes=True)
    tensors = {'weight': torch.arange(5000.0)}
    run.save(State(epoch=3, model=tensors))
    assert run.load().epoch == 3
    last = folder / 'last.pt'
    last.write_bytes(damage(bytearray(last.read_bytes())))
    with pytest.raises(MultishiftError, match='delete it to start the run anew') as caught:
        run.load()
    assert str(caught.value).startswith(f'{last} cannot be read (')
    assert '\n' not in str(caught.value)


def test_state_of_another_program(short: Content, folder: Path) -> None:
    run = RunFolder(folder, TrainConfig.model_validate(short), writes=True)
    torch.save({'epoch': 3, 'colour': 'red'}, folder / 'last.pt')
    with pytest.raises(MultishiftError, match=r"last\.pt cannot be read .*'colour'"):
        run.load()
    torch.save(torch.zeros(3), folder / 'last.pt')
    with pytest.raises(MultishiftError, match=r'last\.pt cannot be read .*Tensor'):
        run.load()
    torch.save({'epoch': Path()}, folder / 'last.pt')  # PyTorch's words would have it loaded
    with pytest.raises(MultishiftError, match=r'cannot be read \(it holds what no run saves\)'):
        run.load()


def test_state_of_a_network_that_has_changed_since(
    short: Content, folder: Path, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate(short)
    run = RunFolder(folder, config, writes=True)
    run.save(State(epoch=1, model={'stem.weight': torch.zeros(3)}))
    message = fault(short, folder, tmp_path)
    assert message.startswith(f'{folder}/last.pt: its weights fit no more (Error(s) in loading')
    assert message.endswith(
        'go on with the version that wrote it, or delete it to start the run anew'
    )
    assert '\n' not in message


def test_process_that_only_reads_writes_nothing(short: Content, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / 'new', TrainConfig.model_validate(short), writes=False)
    run.save(State())
    assert not (tmp_path / 'new').exists()


def test_later_stage_that_cannot_run_is_found_at_once(
    short: Content, stages: dict[str, Content], tmp_path: Path
) -> None:
    folder = tmp_path / 'run'  # without rendered frames
    for change, message in (
        (
            {'trainable': ['aspp', 'neck']},
            "stage features: trainable 'neck' is no part of the network: "
            'it has aspp, backbone, classifier, decoder, low, uncertainty (or * for all)',
        ),
        (
            {'trainable': ['uncertanty']},
            "stage features: trainable 'uncertanty' is no part of the network (did you mean "
            'uncertainty?): it has aspp, backbone, classifier, decoder, low, uncertainty (or * '
            'for all)',
        ),
        (
            {'method': {'kind': 'closed_world'}, 'trainable': ['uncertainty']},
            'stage features: no loss of its method depends on uncertainty: let other parts learn',
        ),
        (
            {'method': {'kind': 'closed_world', 'masks': {}}},
            'stage features: method.masks is for mask networks, which deeplabv3plus_compact is '
            'not: leave it out',
        ),
        (
            {'method': {'kind': 'multishift', 'margins': [1, 1, 1], 'masks': {}}},
            'stage features: method.masks is for mask networks, which deeplabv3plus_compact is '
            'not: leave it out',
        ),
    ):
        plan = [stages['uncertainty'], {**stages['features'], **change}]
        config = {**short, 'stages': plan, 'loss_stride': 1}
        assert fault(config, folder) == message
        assert not (folder / 'last.pt').exists()
        assert not (folder / 'config.yaml').exists()
        assert not (folder / 'cache').exists()


def test_method_of_pairs_needs_partners(
    short: Content, content: Callable[..., Content], folder: Path
) -> None:
    data = dict(content()['data'])
    del data['partners']
    assert fault({**short, 'data': data}, folder) == (
        'stage uncertainty: method multishift learns from pairs: set data.partners'
    )


@pytest.mark.slow
def test_batch_of_one_image_is_found_at_once(
    short: Content, content: Callable[..., Content], stages: dict[str, Content], folder: Path
) -> None:
    data = dict(content()['data'])
    del data['partners']
    frozen = {**stages['closed_world'], 'name': 'first', 'batch_norm': 'frozen', 'epochs': 1}
    config = {**short, 'data': data, 'batch_size': 1, 'stages': [frozen, stages['closed_world']]}
    assert fault(config, folder) == (
        'stage closed_world: batch_size 1 gives each process one image, of which batch norm '
        'aspp.image.1 gets one value per channel: set batch_size to 2 or more, '
        'or batch_norm to frozen'
    )
    assert not (folder / 'last.pt').exists()
    train(TrainConfig.model_validate({**config, 'stages': [frozen]}), folder, root=Path())


def test_stage_whose_losses_reach_nothing_that_learns(
    short: Content, stages: dict[str, Content], folder: Path
) -> None:
    plan = [{**stages['closed_world'], 'trainable': ['uncertainty']}]
    assert fault({**short, 'stages': plan}, folder) == (
        'stage closed_world: no loss of its method depends on uncertainty: let other parts learn'
    )


@pytest.mark.slow
def test_monitor_that_cannot_be_measured(
    short: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {'miou': 0.5, 'ap': None}
    monkeypatch.setattr('multishift_training.loop.train.validate', lambda *_, **__: found)
    message = fault(short, folder)
    assert message.startswith('monitor: miou+ap, but the validation labels have no novel pixels')
    found.update(miou=None)
    message = fault(short, folder)
    assert message.startswith('monitor: miou+ap, but the validation labels have no known classes')
    assert not (folder / 'best.safetensors').exists()


def test_monitor_without_labels_is_found_at_once(
    short: Content, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ValidationSet, 'may_have_novel', False)
    message = fault(short, folder)
    assert message.startswith('monitor: miou+ap, but the validation labels have no novel pixels')
    assert not (folder / 'last.pt').exists()


@pytest.mark.slow
def test_weights_of_another_network(short: Content, folder: Path, tmp_path: Path) -> None:
    save_file({'trunk.weight': torch.zeros(3)}, tmp_path / 'other.safetensors')
    message = fault({**short, 'weights': 'other.safetensors'}, folder, tmp_path)
    assert str(tmp_path / 'other.safetensors') in message
    message = fault({**short, 'weights': 'absent.pth'}, tmp_path / 'second', tmp_path)
    assert str(tmp_path / 'absent.pth') in message


def test_weights_of_another_network_that_a_method_adapted(
    short: Content, stages: dict[str, Content], tmp_path: Path
) -> None:
    stage = {**stages['closed_world'], 'method': {'kind': 'ibn'}}
    config = TrainConfig.model_validate({**short, 'stages': [stage]})
    model = trained.adapted(trained.new_model(config, tmp_path), [config.stages[0].method])
    trained.save(tmp_path / 'start.safetensors', model, config, {})
    other = {**short, 'model': 'segformer_b0', 'weights': 'start.safetensors'}
    message = fault(other, tmp_path / 'run', tmp_path)
    assert message.startswith(
        f'weights: {tmp_path / "start.safetensors"} are of another network: method ibn puts '
    )


@pytest.mark.parametrize(
    ('kinds', 'message'),
    [
        (('isw', 'ibn'), 'method ibn puts instance norms where {} after isw has some: leave out'),
        (('uno', 'spc'), 'method spc puts clusters in the place of the classifier and its score'),
        (('rpl', 'spc', 'uno'), 'method uno is for networks whose .* which {} after rpl, spc is'),
    ],
)
def test_methods_that_do_not_go_together(
    short: Content, tmp_path: Path, kinds: tuple[str, ...], message: str
) -> None:
    config = TrainConfig.model_validate(short)
    more = {'spc': {'sources': 1}}
    methods = [
        METHODS[kind].model_validate({'kind': kind, **more.get(kind, {})}) for kind in kinds
    ]
    with pytest.raises(MultishiftError, match=message.format(config.model)):
        adapted_first(trained.new_model(config, tmp_path), methods, config.model)


def test_methods_that_go_together(short: Content, tmp_path: Path) -> None:
    config = TrainConfig.model_validate(short)
    inner = METHODS['ibn'].model_validate({'kind': 'ibn', 'variant': 'a'})
    ends = METHODS['ibn'].model_validate({'kind': 'ibn'})
    isw = METHODS['isw'].model_validate({'kind': 'isw'})
    clusters = METHODS['spc'].model_validate({'kind': 'spc', 'sources': 1})
    entropy = METHODS['max_entropy'].model_validate({'kind': 'max_entropy'})
    adapted_first(trained.new_model(config, tmp_path), (isw, inner), config.model)
    adapted_first(trained.new_model(config, tmp_path), (clusters, entropy), config.model)
    # A run that was begun when nobody asked had them: its checkpoint opens as it did.
    stages = [{**short['stages'][0], 'method': method.model_dump()} for method in (ends, isw)]
    begun = TrainConfig.model_validate({**short, 'stages': stages})
    model = trained.adapted(trained.new_model(begun, tmp_path), (ends, isw))
    trained.save(tmp_path / 'old.safetensors', model, begun, {})
    trained.open_trained(tmp_path / 'old.safetensors')


def test_weights_to_start_from(
    short: Content, stages: dict[str, Content], folder: Path, tmp_path: Path
) -> None:
    config = TrainConfig.model_validate({**short, 'seed': 7})
    torch.manual_seed(3)
    model = trained.new_model(config, tmp_path)
    earlier = ['the weights before those']
    images = {'kind': 'lums_road', 'split': 'train'}
    campus = {**short, 'data': {**short['data'], 'images': images, 'partners': None}}
    learned = TrainConfig.model_validate(campus | {'stages': [stages['closed_world']]})
    trained.save(tmp_path / 'start.safetensors', model, learned, {}, credits=earlier)
    start = TrainConfig.model_validate({**short, 'weights': 'start.safetensors'})
    run = RunFolder(tmp_path, start, writes=False)
    state = State()
    loaded = make_model(start, tmp_path, run, state)
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    # Whoever learns on from weights owes what they learned from.
    assert state.credits is not None
    assert state.credits[:1] == earlier and 'LUMS Road' in state.credits[1]
    # So does a run that goes on from what an earlier version saved, which kept no credits.
    saved = State(model=loaded.state_dict())
    make_model(start, tmp_path, run, saved)
    assert saved.credits == state.credits


def test_published_weights_are_named(short: Content, tmp_path: Path) -> None:
    """What they learned from is not known: whoever passes the network on must find the file."""
    start = TrainConfig.model_validate({**short, 'weights': 'published.pth'})
    torch.save(trained.new_model(start, tmp_path).state_dict(), tmp_path / 'published.pth')
    digest = sha256((tmp_path / 'published.pth').read_bytes()).hexdigest()
    run, state = RunFolder(tmp_path, start, writes=False), State()
    loaded = make_model(start, tmp_path, run, state)
    named = [f'weights of published.pth ({OWN.name}): SHA-256 {digest}']
    assert state.credits == named
    # So are those of a run that an earlier version saved; of files that are gone, nothing is said.
    saved = State(model=loaded.state_dict())
    make_model(start, tmp_path, run, saved)
    assert saved.credits == [named[0].replace(f' ({OWN.name})', '')]
    (tmp_path / 'published.pth').unlink()
    saved.credits = None
    make_model(start, tmp_path, run, saved)
    assert saved.credits is None


def test_imagenet_weights_to_start_from(
    short: Content, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = 'deeplabv3plus_efficientnet_lite0'
    config = TrainConfig.model_validate({**short, 'model': name, 'weights': 'imagenet'})
    with caplog.at_level(logging.INFO):
        run = RunFolder(tmp_path, config, writes=False)
        model = make_model(config, tmp_path, run, State())
    weights = read_weights(find_imagenet_weights(model, name))
    assert torch.equal(model.backbone.stem[0].weight, weights['_conv_stem.weight'])
    loaded, random = caplog.messages
    assert 'efficientnet-lite0' in loaded and '288 tensors used' in loaded
    assert random == 'start at random: aspp, classifier, decoder, low'


def test_file_called_imagenet_is_no_package(short: Content, folder: Path, tmp_path: Path) -> None:
    message = fault({**short, 'weights': './imagenet'}, folder, tmp_path)
    assert message.startswith(str(tmp_path / 'imagenet'))
    assert 'no package' in fault({**short, 'weights': 'imagenet'}, tmp_path / 'second', tmp_path)


CHANGES: list[tuple[Callable[[Content], object], str]] = [
    (
        lambda c: c.update(model='resnet'),
        r'model \(line \d+\): resnet is no network.*, expected deeplab',
    ),
    (
        lambda c: c.update(learning_rat=1),
        r'learning_rat \(line \d+\) is no key, expected model, .* or stages$',
    ),
    (
        lambda c: c.update(batch_size='many'),
        r'batch_size \(line \d+\) is many, expected a whole number, 1 or more$',
    ),
    (lambda c: c.update(batch_size=True), 'batch_size .* is true, expected a whole number, 1 or'),
    (
        lambda c: c['data']['images'].update(frames=True),
        r'data\.images\.frames \(line \d+\) is true, expected a whole number, 1 or more$',
    ),
    (
        lambda c: c.update(engine_size=[True, 160]),
        r'engine_size .* is \[True, 160\], expected a list of 2 entries, each a whole number',
    ),
    (lambda c: c['stages'][0].update(clip_norm=True), 'clip_norm .* is true, expected a number'),
    (lambda c: c.update(batch_size=0), 'batch_size .* is 0, expected a whole number, 1 or more$'),
    (
        lambda c: c.update(seed=-1),
        'seed .* is -1, expected a whole number, 0 or more, below 4294967296$',
    ),
    (
        lambda c: c.update(precision='fp16'),
        'precision .* is fp16, expected fp32 or bf16 .did you mean bf16.',
    ),
    (lambda c: c.update(monitor='loss'), r'monitor .* is loss, expected ap, miou or miou\+ap$'),
    (
        lambda c: c.update(stages=[]),
        r'stages .* is \[\], expected a list of 1 or more, each entry',
    ),
    (lambda c: c.update(folder='some'), 'folder goes with model eomt or mask2former, and only'),
    (
        lambda c: c.update(model='mask2former'),
        'folder goes with model eomt or mask2former, and only',
    ),
    (lambda c: c.pop('val'), 'val is missing, expected the keys images, outliers$'),
    (
        lambda c: c['data']['images'].update(kind='video'),
        r'data\.images\.kind .* is video, expected cityscapes, .* or folder',
    ),
    (
        lambda c: c['data']['transforms'].update(zoom=[2, 1]),
        r'data\.transforms\.zoom \(line \d+\): .*smaller first',
    ),
    (
        lambda c: c['stages'][0].update(batch_norm='off'),
        r'stages\[0\]\.batch_norm .* is off, expected all, trained, decoder or frozen',
    ),
    (lambda c: c['stages'][0].update(epochs=0), r'stages\[0\]\.epochs .* is 0'),
    (lambda c: c['stages'][0].update(trainable=[]), r'stages\[0\]\.trainable .* is \[\]'),
    (
        lambda c: c['stages'][0]['method'].update(kind='magic'),
        r'closed_world, multishift, .* or \w+',
    ),
    (
        lambda c: c['stages'][0]['method'].update(third_term='mine'),
        r'stages\[0\]\.method\.third_term .* is mine, expected paper, poster or code',
    ),
    (
        lambda c: c['stages'][0]['method'].update(contrastive=0),
        r'stages\[0\]\.method .*: all losses have weight 0',
    ),
    (
        lambda c: c['stages'][0]['method'].update(trusted_ratio=1.5),
        r'stages\[0\]\.method\.trusted_ratio .* is 1.5, expected a number, above 0, at most 1',
    ),
    (lambda c: c['stages'][0]['method'].update(masks={}), 'loss_stride: mask losses .*set 1'),
    (
        lambda c: c['stages'][0].update(method={'kind': 'closed_world', 'masks': {}}),
        'loss_stride: mask losses take every pixel: set 1$',
    ),
    (
        lambda c: c['stages'][0].update(
            method={'kind': 'closed_world', 'masks': {}, 'class_weights': True}
        ),
        r'stages\[0\]\.method .*: class_weights are for the cross-entropy',
    ),
    (
        lambda c: c['stages'][0]['method'].update(masks={}, class_weights=True),
        r'stages\[0\]\.method .*: class_weights are for the cross-entropy',
    ),
    (lambda c: c['stages'][0]['optimizer'].update(name='lion'), 'adam, adamw or sgd'),
    (
        lambda c: c['stages'][0]['optimizer'].pop('learning_rate'),
        r'learning_rate is missing in the block of line \d+, expected a number, above 0$',
    ),
    (lambda c: c['stages'][0].update(schedule={'kind': 'step'}), 'constant, cosine or poly'),
]


@pytest.mark.parametrize(('change', 'message'), CHANGES, ids=[m for _, m in CHANGES])
def test_bad_configuration_names_the_field(
    change: Callable[[Content], object], message: str, short: Content, tmp_path: Path
) -> None:
    path = tmp_path / 'config.yaml'
    content = yaml.safe_load(yaml.safe_dump(short))
    change(content)
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(MultishiftError, match=message) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_too_large_a_batch_is_refused_before_frames_are_rendered(
    short: Content, tmp_path: Path
) -> None:
    said = fault({**short, 'batch_size': 9}, tmp_path / 'run')
    assert 'sample_drive gives 8 samples, fewer than one batch' in said
    assert not (tmp_path / 'run' / 'cache').exists()
