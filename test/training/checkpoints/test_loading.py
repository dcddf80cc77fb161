# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
import errno
import json
import os
from pathlib import Path
import pickle
import zipfile

import numpy as np
import pytest
from safetensors.torch import save_file
import torch
from torch import Tensor, nn

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints.pickles import PickledArray
from multishift_training.models import Prediction, SegmentationModel
from multishift_training.models.input_scale import IMAGENET
from multishift_training.models.layout import Layout, Source

State = dict[str, Tensor]


class Toy(SegmentationModel):
    """Two published layouts; those of the second lack the bias of the backbone."""

    input_scale = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.attention = nn.ModuleDict({'query': nn.Linear(4, 4), 'key': nn.Linear(4, 4)})
        self.classifier = nn.Conv2d(4, 2, 1)
        self.uncertainty = nn.Conv2d(4, 2, 1)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Prediction:
        raise NotImplementedError

    def init_uncertainty_from_classifier(self) -> None:
        self.uncertainty.load_state_dict(self.classifier.state_dict())

    def layouts(self) -> Sequence[Layout]:
        return (
            Layout(
                'published',
                signature='trunk.0.weight',
                source=_published,
                optional=(r'ood_head\..*', r'.*\.num_batches_tracked'),
                extra=(r'criterion\..*',),
            ),
            Layout(
                'published without bias',
                signature='stem.0.weight',
                source=lambda key: Source(key.replace('backbone', 'stem')),
                adapt=self._drop_bias,
            ),
        )

    def _drop_bias(self) -> Callable[[], None]:
        conv = self.backbone[0]
        bias, conv.bias = conv.bias, None

        def undo() -> None:
            conv.bias = bias

        return undo


def _published(key: str) -> Source:
    name = key.replace('backbone', 'trunk').replace('uncertainty', 'ood_head')
    if key.startswith('attention.query'):
        return Source(key.replace('query', 'in_proj'), lambda t: t[:4])
    if key.startswith('attention.key'):
        return Source(key.replace('key', 'in_proj'), lambda t: t[4:])
    return Source(name)


def toy(seed: int) -> Toy:
    torch.manual_seed(seed)
    model = Toy()
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(7))
    return model


def published(model: Toy) -> State:
    """The state of a model, as the first of its layouts has it."""
    state = model.state_dict()
    file = {_published(key).key: tensor for key, tensor in state.items() if 'attention' not in key}
    for kind in ('weight', 'bias'):
        pair = [state[f'attention.{name}.{kind}'] for name in ('query', 'key')]
        file[f'attention.in_proj.{kind}'] = torch.cat(pair)
    return file


def copy(model: nn.Module) -> State:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[key]) for key, tensor in first.items()
    )


def write_pickle(content: object, path: Path, protocol: int = 4) -> None:
    path.write_bytes(pickle.dumps(content, protocol))


def arrays(state: State) -> dict[str, object]:
    return {key: tensor.numpy() for key, tensor in state.items()}


def save_legacy(content: object, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def nvidia(state: State) -> dict[str, object]:
    """As the trainer of NVIDIA's networks saves: a numpy scalar stands beside the weights."""
    wrapped = OrderedDict((f'module.{key}', tensor) for key, tensor in state.items())
    return {
        'state_dict': wrapped,
        'optimizer': {'state': {}, 'param_groups': [{'lr': 0.1}]},
        'epoch': 3,
        'mean_iu': np.float64(0.8),
        'per_class': np.arange(19.0),
        'command': ['train.py'],
    }


WRITERS: dict[str, Callable[[State, Path], None]] = {
    'zip': lambda state, path: torch.save(state, path),
    'legacy': save_legacy,
    'state_dict': lambda state, path: torch.save({'state_dict': state, 'epoch': 1}, path),
    'model': lambda state, path: torch.save({'model': state, '__author__': 'x'}, path),
    'model_state_dict': lambda state, path: torch.save({'model_state_dict': state}, path),
    'nvidia': lambda state, path: torch.save(nvidia(state), path),
    'nvidia, legacy': lambda state, path: save_legacy(nvidia(state), path),
    'numpy in torch': lambda state, path: torch.save({'model': arrays(state)}, path),
    'compiled': lambda state, path: torch.save(
        {f'module._orig_mod.{key}': tensor for key, tensor in state.items()}, path
    ),
    'safetensors': lambda state, path: save_file(state, path),
    **{
        f'detectron2, protocol {protocol}': lambda state, path, protocol=protocol: write_pickle(  # type: ignore[misc]
            {'model': arrays(state), '__author__': 'x', 'mean': np.float32(3)}, path, protocol
        )
        for protocol in (2, 3, 4, 5)
    },
}


@pytest.mark.parametrize('writer', WRITERS)
def test_every_format_gives_the_same_weights(writer: str, tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    path = tmp_path / 'file.pth.tar'
    WRITERS[writer](published(original), path)
    report = checkpoints.load(model, path)
    assert same(model.state_dict(), original.state_dict())
    assert report == ('published', tuple(sorted(published(original))), (), ())


def test_numpy_1_named_its_modules_otherwise(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    path = tmp_path / 'old.pkl'
    write_pickle({'model': arrays(published(original)), 'iou': np.float64(1)}, path, protocol=2)
    content = path.read_bytes()
    assert b'cnumpy._core.multiarray\n' in content
    path.write_bytes(content.replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'))
    checkpoints.load(model, path)
    assert same(model.state_dict(), original.state_dict())


def test_numpy_1_scalar_beside_torch_weights(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    path = tmp_path / 'old.pth'
    save_legacy(nvidia(published(original)), path)
    content = path.read_bytes()
    assert b'cnumpy._core.multiarray\n' in content
    path.write_bytes(content.replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n'))
    checkpoints.load(model, path)
    assert same(model.state_dict(), original.state_dict())


def test_fortran_order_is_kept(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    state = {key: np.array(value, order='F') for key, value in arrays(published(original)).items()}
    write_pickle({'model': state}, tmp_path / 'fortran.pkl')
    checkpoints.load(model, tmp_path / 'fortran.pkl')
    assert same(model.state_dict(), original.state_dict())


def test_documented_differences_are_reported(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    state = published(original)
    del state['ood_head.weight'], state['ood_head.bias'], state['trunk.1.num_batches_tracked']
    state['criterion.weight'] = torch.full((3,), torch.nan)
    torch.save(state, tmp_path / 'a.pth')
    report = checkpoints.load(model, tmp_path / 'a.pth')
    missing = ('ood_head.bias', 'ood_head.weight', 'trunk.1.num_batches_tracked')
    assert report.missing == missing
    assert report.left_over == ('criterion.weight',)
    assert set(report.used) == state.keys() - {'criterion.weight'}
    assert str(report).splitlines() == [
        'layout: published',
        '10 tensors used',
        f'3 missing, as this layout allows: {", ".join(missing)}',
        '1 left over, as this layout allows: criterion.weight',
    ]
    assert torch.equal(model.uncertainty.weight, original.classifier.weight)
    assert torch.equal(model.uncertainty.bias, original.classifier.bias)
    assert torch.equal(model.backbone[0].weight, original.backbone[0].weight)  # type: ignore[arg-type]


def test_present_head_is_not_replaced(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    state = published(original)
    del state['trunk.1.num_batches_tracked']
    torch.save(state, tmp_path / 'a.pth')
    assert checkpoints.load(model, tmp_path / 'a.pth').missing == ('trunk.1.num_batches_tracked',)
    assert torch.equal(model.uncertainty.weight, original.uncertainty.weight)


def test_layout_of_another_structure(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    state = {k.replace('backbone', 'stem'): v for k, v in original.state_dict().items()}
    del state['stem.0.bias']
    torch.save(state, tmp_path / 'a.pth')
    report = checkpoints.load(model, tmp_path / 'a.pth')
    assert report.layout == 'published without bias'
    assert model.backbone[0].bias is None
    assert torch.equal(model.backbone[0].weight, original.backbone[0].weight)  # type: ignore[arg-type]


def test_own_layout(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    save_file(original.state_dict(), tmp_path / 'best.safetensors')
    assert checkpoints.load(model, tmp_path / 'best.safetensors').layout == 'multishift'
    assert same(model.state_dict(), original.state_dict())


def test_weights_stay_parameters_of_their_own_type(tmp_path: Path) -> None:
    original, model = toy(1), toy(2)
    half = {k: v.half() if v.is_floating_point() else v for k, v in published(original).items()}
    save_file(half, tmp_path / 'half.safetensors')
    model.classifier.weight.requires_grad_(False)
    checkpoints.load(model, tmp_path / 'half.safetensors')
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.classifier.weight, original.classifier.weight.half().float())
    assert not model.classifier.weight.requires_grad
    assert model.classifier.bias.requires_grad
    (tmp_path / 'half.safetensors').unlink()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Hugging Face folder without weights."""
    path = tmp_path / 'folder'
    path.mkdir()
    (path / 'config.json').write_text('{}')
    return path


def write_shards(folder: Path, state: State) -> None:
    parts = dict(list(state.items())[::2]), dict(list(state.items())[1::2])
    names = [f'model-{i}-of-2.safetensors' for i in (1, 2)]
    weight_map: dict[str, str] = {}
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = {'metadata': {}, 'weight_map': weight_map}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index))


FOLDERS: dict[str, Callable[[Path, State], None]] = {
    'one file': lambda folder, state: save_file(state, folder / 'model.safetensors'),
    'shards': write_shards,
    'torch': lambda folder, state: torch.save(state, folder / 'pytorch_model.bin'),
}


@pytest.mark.parametrize('kind', FOLDERS)
def test_hugging_face_folder(kind: str, folder: Path) -> None:
    original, model = toy(1), toy(2)
    FOLDERS[kind](folder, published(original))
    checkpoints.load(model, folder)
    assert same(model.state_dict(), original.state_dict())


def refused(path: Path, message: str) -> str:
    """See that a file is refused in one line that names it, and leaves the network as it was."""
    model = toy(2)
    before = copy(model)
    with pytest.raises(MultishiftError, match=message) as caught:
        checkpoints.load(model, path)
    assert same(model.state_dict(), before)
    text = str(caught.value)
    assert str(path) in text
    assert '\n' not in text
    return text


def test_faulty_folders(folder: Path, tmp_path: Path) -> None:
    assert 'no weights' in refused(folder, 'put its model.safetensors beside')
    index = folder / 'model.safetensors.index.json'
    write_shards(folder, published(toy(1)))
    (folder / 'model-2-of-2.safetensors').unlink()
    refused(folder, r'model-2-of-2\.safetensors cannot be read \(No such file')
    index.write_text(json.dumps({'weight_map': {'a': '../../secret.safetensors'}}))
    refused(folder, 'names files outside its folder')
    for text in ('{', '[]', '{"weight_map": 3}'):
        index.write_text(text)
        refused(folder, 'is no index of shards')
    (folder / 'config.json').unlink()
    refused(folder, 'no config.json')


def test_file_that_does_not_exist(tmp_path: Path) -> None:
    refused(tmp_path / 'none.pth', 'cannot be read .No such file')


def test_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / 'a.pth'
    torch.save(published(toy(1)), path)

    def denied(*_: object) -> None:  # root, who may run this test, may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, 'open', denied)
    refused(path, 'a.pth cannot be read .Permission denied')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'it is empty'),
        (b'hello', r"it begins with b'hello'"),
        (b'<!DOCTYPE html><html>', r"it begins with b'<!DOCTYPE html><'"),
        (b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', 'no checkpoint'),
        (b'\x80\x04', 'damaged'),
        (b'\x80\x04.', 'damaged'),
        (b'PK\x03\x04nothing', 'damaged'),
        (b'\xff' * 8 + b'{"a": 1}', 'no whole safetensors file'),
    ],
)
def test_files_that_are_no_checkpoints(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / 'a.pth').write_bytes(content)
    refused(tmp_path / 'a.pth', message)


@pytest.mark.parametrize('writer', ['zip', 'legacy', 'safetensors', 'detectron2, protocol 4'])
@pytest.mark.parametrize('share', [0.02, 0.3, 0.7, 0.999])
def test_truncated_file(writer: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    WRITERS[writer](published(toy(1)), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path, 'damaged, cut short|no whole safetensors file')


def test_flipped_bit(tmp_path: Path) -> None:
    path = tmp_path / 'a.pth'
    state = published(toy(1))
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    content[content.index(state['trunk.0.weight'].numpy().tobytes())] ^= 1
    path.write_bytes(content)
    refused(path, 'checksum of .*/data/')


def test_other_archives(tmp_path: Path) -> None:
    for names in (['a/b.txt'], ['a/data.pkl', 'a/constants.pkl', 'a/code/net.py']):
        with zipfile.ZipFile(tmp_path / 'a.zip', 'w') as archive:
            for name in names:
                archive.writestr(name, 'text')
        refused(tmp_path / 'a.zip', 'zip archive, but none of weights')


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[object, ...]:
        return open, (self.path, 'w')


class Harmless:
    """No code, but still a class that an unpickler would have to import."""


WRITE: dict[str, Callable[[object, Path], None]] = {
    'zip': torch.save,
    'legacy': save_legacy,
    'pickle 2': lambda content, path: write_pickle(content, path, 2),
    'pickle 5': lambda content, path: write_pickle(content, path, 5),
}


@pytest.mark.parametrize('write', WRITE)
def test_foreign_code_does_not_run(write: str, tmp_path: Path) -> None:
    sprung, path = tmp_path / 'sprung', tmp_path / 'a.pth'
    # The trap works: an ordinary unpickler steps into it.
    pickle.loads(pickle.dumps(Trap(sprung))).close()
    sprung.unlink()
    WRITE[write]({'state_dict': {}, 'more': Trap(sprung)}, path)
    refused(path, r'foreign class (_?io|builtins)?\.?open, .*state_dict alone')
    assert not sprung.exists()
    # Within an array of objects, too.
    array = np.array([Trap(sprung)], object)
    WRITE[write]({'model': {'trunk.0.weight': array}}, path)
    refused(path, 'foreign class .*open')
    assert not sprung.exists()


@pytest.mark.parametrize('write', WRITE)
def test_foreign_class_is_named(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Harmless, '__module__', 'pickle')
    monkeypatch.setattr(pickle, 'Harmless', Harmless, raising=False)
    WRITE[write]({'model': {}, 'meta': Harmless()}, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth', 'foreign class pickle.Harmless')


@pytest.mark.parametrize(
    'array',
    [
        np.array([{'a': 1}, None], object),
        np.ones(3, '>f4'),
        np.array(['text']),
        np.zeros(2, [('a', 'f4'), ('b', 'O')]),
        np.ones(2, np.complex64),
    ],
    ids=['objects', 'big-endian', 'text', 'records', 'complex'],
)
def test_arrays_that_are_no_weights(array: object, tmp_path: Path) -> None:
    write_pickle({'model': {'trunk.0.weight': array}}, tmp_path / 'a.pkl')
    refused(tmp_path / 'a.pkl', 'trunk.0.weight is no plain array')
    # Where nobody needs them they do no harm.
    state = {'model': arrays(published(toy(1))), 'meta': array}
    write_pickle(state, tmp_path / 'b.pkl')
    checkpoints.load(toy(2), tmp_path / 'b.pkl')


@pytest.mark.parametrize('name', ['numpy\ndtype', 'numpy.core.multiarray\n_reconstruct'])
def test_pickle_cannot_alter_the_classes_that_read_it(name: str, tmp_path: Path) -> None:
    tampering = b'\x80\x02c' + name.encode() + b'\nN}X\x05\x00\x00\x00stateK\x01s\x86b.'
    (tmp_path / 'a.pkl').write_bytes(tampering)
    refused(tmp_path / 'a.pkl', 'damaged')
    assert PickledArray.state == ()


def test_array_that_claims_more_than_it_has(tmp_path: Path) -> None:
    write_pickle({'trunk.0.weight': np.zeros(3, 'f4')}, tmp_path / 'a.pkl')
    content = (tmp_path / 'a.pkl').read_bytes()
    assert content.count(b'K\x01K\x03\x85') == 1
    (tmp_path / 'a.pkl').write_bytes(content.replace(b'K\x01K\x03\x85', b'K\x01K\x09\x85'))
    refused(tmp_path / 'a.pkl', 'trunk.0.weight is no plain array')


@pytest.mark.parametrize(
    'content',
    [
        [1, 2],
        'text',
        torch.ones(3),
        {},
        {'epoch': 3},
        {'model': {'state_dict': {'a': torch.ones(1)}}},
    ],
)
def test_no_dict_of_tensors(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth', 'holds no dict of tensors')


def test_sparse_tensor(tmp_path: Path) -> None:
    torch.save({'trunk.0.weight': torch.eye(3).to_sparse()}, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth', 'trunk.0.weight is sparse')


def altered(**changes: Tensor | None) -> State:
    """A published state with tensors replaced, added, or removed; `__` stands for a dot."""
    state = published(toy(1))
    for name, tensor in changes.items():
        state.pop(name.replace('__', '.'), None)
        if tensor is not None:
            state[name.replace('__', '.')] = tensor
    return state


FAULTS: dict[str, tuple[State, str]] = {
    'missing': (altered(classifier__bias=None), r'1 missing: classifier\.bias'),
    'left over': (altered(stray=torch.ones(1)), '1 left over: stray'),
    'several': (
        altered(classifier__bias=None, stray=torch.ones(1), trunk__0__bias=torch.ones(5)),
        r'1 missing: classifier\.bias; 1 left over: stray; '
        r'1 of another shape: trunk\.0\.bias is 5 float32, not 4 float32',
    ),
    'too many to list': (
        altered(**{f'stray{i:02}': torch.ones(1) for i in range(11)}),
        'stray00, .*stray07 and 3 more',
    ),
    'integers': (
        altered(trunk__0__bias=torch.ones(4, dtype=torch.int64)),
        'trunk.0.bias is 4 int64, not 4 float32',
    ),
    'complex': (
        altered(trunk__0__bias=torch.ones(4, dtype=torch.complex64)),
        'trunk.0.bias is 4 complex64, not 4 float32',
    ),
    'cannot be cut': (altered(attention__in_proj__weight=torch.tensor(1.0)), 'in_proj.weight is'),
    'half a head': (altered(ood_head__bias=None), '1 missing: ood_head.bias'),
    'unknown': (
        {'weight': torch.ones(2)},
        r'none of the layouts of this network \(published; .*: weight: give',
    ),
    'nan': (altered(trunk__0__bias=torch.tensor([0, 0, torch.nan, 0])), 'NaN .*: trunk.0.bias'),
    'infinite': (altered(trunk__0__bias=torch.tensor([0, 0, torch.inf, 0])), 'infinite .*: trunk'),
    'too large': (
        altered(trunk__0__bias=torch.full((4,), 1e300, dtype=torch.float64)),
        'infinite .*: trunk.0.bias',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('fault', FAULTS)
def test_faulty_state(fault: str, tmp_path: Path) -> None:
    state, message = FAULTS[fault]
    torch.save(state, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth', message)


@pytest.mark.parametrize('fault', ['missing', 'nan'])
def test_change_of_structure_is_undone(fault: str, tmp_path: Path) -> None:
    state = {k.replace('backbone', 'stem'): v for k, v in toy(1).state_dict().items()}
    del state['stem.0.bias']
    if fault == 'missing':
        del state['classifier.bias']
    else:
        state['classifier.bias'] = torch.full((2,), torch.nan)
    torch.save(state, tmp_path / 'a.pth')
    refused(tmp_path / 'a.pth', 'classifier.bias')


def test_interrupted_check_leaves_the_network_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {k.replace('backbone', 'stem'): v for k, v in toy(1).state_dict().items()}
    del state['stem.0.bias']
    torch.save(state, tmp_path / 'a.pth')
    model = toy(2)
    before = copy(model)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr('multishift_training.checkpoints.loading._check_finite', interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.load(model, tmp_path / 'a.pth')
    assert same(model.state_dict(), before)
