# SPDX-License-Identifier: Apache-2.0
"""The order of `auto`, and what keeps an artifact from running; the GPU is a fake."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import platform
import sys
from types import SimpleNamespace

import pytest
import torch

from multishift_perception.engine import selection
from multishift_perception.engine.gpu import Gpu
from multishift_perception.engine.manifest import Artifact, Manifest, TensorRtNeeds, read_manifest
from multishift_perception.engine.selection import all_sizes, choose, place
from multishift_perception.errors import MultishiftError

HOST = f'{sys.platform}_{platform.machine()}'
BUNDLE = Path('bundle')


def artifact(flavour: str = 'tensorrt', **needs: str) -> Artifact:
    fitting = {
        'flavour': flavour,
        'version': '11.1.0',
        'compute_capability': '8.9',
        'platform': HOST,
        'gpu': 'NVIDIA L4' if flavour == 'tensorrt' else None,
    }
    wanted = {**fitting, **needs}
    return Artifact(
        backend='tensorrt',
        file=f'{flavour}-sm{wanted["compute_capability"].replace(".", "")}.engine',
        sha256='0' * 64,
        precision='fp16',
        needs={},
        tensorrt=TensorRtNeeds.model_validate(wanted),
        parity=None,
    )


@pytest.fixture
def manifest(tiny_bundle: Path) -> Manifest:
    return read_manifest(tiny_bundle)


def with_(manifest: Manifest, *added: Artifact) -> Manifest:
    return manifest.model_copy(update={'artifacts': [*manifest.artifacts, *added]})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An L4 with CUDA PyTorch and TensorRT 11.1.0."""
    monkeypatch.setattr(selection, 'find_gpu', lambda index: Gpu('NVIDIA L4', '8.9'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    libraries(monkeypatch, 'tensorrt', '11.1.0.106')


def libraries(monkeypatch: pytest.MonkeyPatch, flavour: str, version: str) -> None:
    features = SimpleNamespace(tensorrt_rtx=flavour == 'tensorrt_rtx')
    monkeypatch.setitem(sys.modules, flavour, SimpleNamespace(__version__=version))
    monkeypatch.setitem(sys.modules, 'torch_tensorrt', SimpleNamespace(ENABLED_FEATURES=features))


def test_without_gpu_openvino_comes_before_torch(manifest: Manifest) -> None:
    choice = choose(BUNDLE, with_(manifest, artifact()))
    assert (choice.artifact.backend, choice.device) == ('openvino', 'cpu')
    assert 'backend openvino on cpu (openvino.xml), the first in order that fits' in str(choice)
    assert 'tensorrt-sm89.engine cannot run on the GPU: there is no NVIDIA driver' in str(choice)
    assert '\n' not in str(choice)


def test_fitting_tensorrt_comes_first(manifest: Manifest, gpu: None) -> None:
    choice = choose(BUNDLE, with_(manifest, artifact()), device=1)
    assert (choice.artifact.backend, choice.device) == ('tensorrt', 'cuda:1')
    assert str(choice).endswith('(tensorrt-sm89.engine), the first in order')


def test_on_a_gpu_torch_comes_before_openvino(manifest: Manifest, gpu: None) -> None:
    choice = choose(BUNDLE, with_(manifest, artifact(compute_capability='12.0')))
    assert (choice.artifact.backend, choice.device) == ('torch', 'cuda:0')
    assert 'compute capability 12.0, NVIDIA L4 has 8.9' in str(choice)


def test_of_several_engines_the_fitting_one(manifest: Manifest, gpu: None) -> None:
    engines = artifact(compute_capability='7.5'), artifact(), artifact(compute_capability='9.0')
    choice = choose(BUNDLE, with_(manifest, *engines), 'tensorrt')
    assert choice.artifact.file == 'tensorrt-sm89.engine'


def test_engines_of_other_batch_sizes_go_with_the_chosen_one(
    manifest: Manifest, gpu: None
) -> None:
    def sized(batch: int, **changes: object) -> Artifact:
        return artifact().model_copy(
            update={'batches': [batch], 'file': f'batch{batch}.engine', **changes}
        )

    misfit = artifact(compute_capability='7.5').model_copy(update={'batches': [16]})
    engines = sized(1), sized(4), misfit, sized(2), sized(8, precision='bf16')
    full = with_(manifest, *engines)
    choice = choose(BUNDLE, full, 'tensorrt')
    found = all_sizes(full, choice)
    assert {batch: sized.artifact.file for batch, sized in found.items()} == {
        1: 'batch1.engine',
        2: 'batch2.engine',
        4: 'batch4.engine',
    }
    assert [*found] == [1, 2, 4]


def test_torch_on_the_cpu_where_asked_for_without_gpu(manifest: Manifest) -> None:
    assert choose(BUNDLE, manifest, 'torch').device == 'cpu'


@pytest.mark.parametrize(
    ('needs', 'words'),
    [
        (
            {'compute_capability': '8.6'},
            'compute capability 8.6, NVIDIA L4 has 8.9: on this machine run '
            '`multishift engine build CHECKPOINT --target tensorrt`',
        ),
        ({'gpu': 'NVIDIA GeForce RTX 4090'}, 'NVIDIA GeForce RTX 4090, this GPU is NVIDIA L4'),
        ({'version': '10.9.0'}, 'TensorRT 10.9.0, this machine has 11.1.0: on this machine run'),
    ],
    ids=['capability', 'gpu', 'version'],
)
def test_misfit_gives_both_values_and_the_command(
    manifest: Manifest, gpu: None, needs: dict[str, str], words: str
) -> None:
    with pytest.raises(MultishiftError) as caught:
        choose(BUNDLE, with_(manifest, artifact(**needs)), 'tensorrt')
    assert words in str(caught.value)
    assert '\n' not in str(caught.value)


def test_other_platform(manifest: Manifest, gpu: None) -> None:
    other = 'linux_aarch64' if HOST == 'linux_x86_64' else 'linux_x86_64'
    with pytest.raises(MultishiftError, match=f'built for {other}, this machine is {HOST}'):
        choose(BUNDLE, with_(manifest, artifact(platform=other)), 'tensorrt')


def test_rtx_engine_for_another_gpu_names_the_target(manifest: Manifest, gpu: None) -> None:
    engine = artifact('tensorrt_rtx', compute_capability='8.6')
    with pytest.raises(MultishiftError, match='--target tensorrt-rtx --compute-capability 8.9'):
        choose(BUNDLE, with_(manifest, engine), 'tensorrt')


def test_rtx_engine_with_its_library(
    manifest: Manifest, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries(monkeypatch, 'tensorrt_rtx', '11.1.0')
    choice = choose(BUNDLE, with_(manifest, artifact('tensorrt_rtx')))
    assert choice.artifact.backend == 'tensorrt'


def test_rtx_engine_with_the_other_torch_tensorrt(
    manifest: Manifest, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt_rtx', SimpleNamespace(__version__='11.1.0'))
    with pytest.raises(MultishiftError, match='is for TensorRT: .* install torch-tensorrt-rtx'):
        choose(BUNDLE, with_(manifest, artifact('tensorrt_rtx')), 'tensorrt')


def test_library_is_missing(
    manifest: Manifest, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'tensorrt', None)
    with pytest.raises(MultishiftError, match='TensorRT does not load .* install torch-tensorrt'):
        choose(BUNDLE, with_(manifest, artifact()), 'tensorrt')


def test_torch_without_cuda_beside_a_gpu(
    manifest: Manifest, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    choice = choose(BUNDLE, manifest)
    assert choice.artifact.backend == 'openvino'
    assert 'does not use NVIDIA L4: install a build of torch for the CUDA' in str(choice)


def test_missing_openvino(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, 'find_spec', lambda n: None if n == 'openvino' else found(n)
    )
    assert choose(BUNDLE, manifest).artifact.backend == 'torch'
    with pytest.raises(MultishiftError, match='openvino is not installed: pip install openvino'):
        choose(BUNDLE, manifest, 'openvino')


def test_missing_torch(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torch', None)
    choice = choose(BUNDLE, manifest)
    assert choice.artifact.backend == 'openvino'
    # Without a GPU it would help nobody.
    assert 'no NVIDIA driver' in str(choice) and 'pip install' not in str(choice)
    only = f"nothing for backend 'torch' in {BUNDLE} runs .* torch is not installed: pip install"
    with pytest.raises(MultishiftError, match=only):
        choose(BUNDLE, manifest, 'torch')


def test_missing_torch_beside_a_gpu(
    manifest: Manifest, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'torch', None)
    assert 'cannot run on the GPU: torch is not installed' in str(choose(BUNDLE, manifest))


def test_place_of_one_artifact(manifest: Manifest) -> None:
    by_torch = manifest.artifact('torch')
    assert by_torch is not None
    assert place(by_torch).device == 'cpu'
    with pytest.raises(MultishiftError, match='^cannot run on the GPU: there is no NVIDIA driver'):
        place(artifact())
