# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
import re
from typing import Any

import pytest
from safetensors.torch import save_file
import torch
from torch.nn import functional as F
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinConfig,
)
from transformers.models.mask2former.image_processing_pil_mask2former import (
    Mask2FormerImageProcessorPil,
)
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention,
    Mask2FormerPixelDecoderEncoderOnly,
)

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.models import mask2former_output
from multishift_training.models.global_attention import GlobalAttention, attention_masks
from multishift_training.models.mask2former import Mask2Former
from multishift_training.models.mask2former_decoder import QueryDecoder
from multishift_training.models.mask2former_deformable import DeformableAttention
from multishift_training.models.mask2former_factory import (
    mask2former_from_folder,
    mask2former_resnet50,
)
from multishift_training.models.mask2former_norm import FrozenBatchNorm2d
from multishift_training.models.mask2former_output import join_classes_first, join_masks
from multishift_training.models.prediction import MaskPrediction

STAGES = ['stage1', 'stage2', 'stage3', 'stage4']
BACKBONES = {
    'swin': SwinConfig(  # type: ignore[call-arg]
        embed_dim=16,
        depths=[1, 1, 2, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        out_features=STAGES,
    ),
    'resnet': ResNetConfig(  # type: ignore[call-arg]
        embedding_size=8, hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], out_features=STAGES
    ),
}


@pytest.fixture(autouse=True, scope='module')
def seed_and_thread():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these networks are too small to share among more
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope='module')
def published() -> Mask2Former:
    return mask2former_resnet50(19).eval()


def vary(model):
    """Draw weights for which masks differ from pixel to pixel and from query to query."""
    for name, tensor in model.state_dict().items():
        if name.endswith('running_mean') or name.endswith('bias'):
            tensor.copy_(0.1 * torch.randn_like(tensor))
        elif tensor.is_floating_point() and tensor.dim() > 1 and 'relative' not in name:
            tensor.copy_(torch.randn_like(tensor) * (1.5 / tensor[0].numel()) ** 0.5)
    model.model.pixel_level_module.decoder.mask_projection.weight.data.mul_(5)
    return model.eval()


@pytest.fixture(scope='module', params=sorted(BACKBONES))
def folder(request, tmp_path_factory):
    """Return a folder that `transformers` saved, and the network in it."""
    torch.manual_seed(0)
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=2,
        decoder_layers=6,
        num_attention_heads=4,
        num_queries=7,
        num_labels=5,
    )
    config.backbone_config = BACKBONES[request.param]
    model = vary(Mask2FormerForUniversalSegmentation(config))
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    return path, model


def in_file(model: Mask2Former) -> dict[str, torch.Tensor]:
    """Return the model's tensors as the published file holds them."""
    layout = model.layouts()[0]
    parts: dict[str, list[torch.Tensor]] = {}
    for key, tensor in model.state_dict().items():
        parts.setdefault(layout.source(key).key, []).append(tensor)
    return {key: torch.cat(p) if len(p) > 1 else p[0] for key, p in parts.items()}


@pytest.mark.slow
def test_keys_and_shapes_are_the_published_ones(published):
    table = Path(__file__).parents[1] / 'keys/mask2former_keys.tsv'
    with table.open() as lines:
        rows = {row['key']: row['shape'] for row in csv.DictReader(lines, delimiter='\t')}
    stored = in_file(published)
    assert len(rows) == 667
    assert stored.keys() == rows.keys()
    shapes = {key: 'x'.join(map(str, tensor.shape)) or 'scalar' for key, tensor in stored.items()}
    assert shapes == rows
    layout = published.layouts()[0]
    for key, tensor in published.state_dict().items():
        place = layout.source(key)
        taken = stored[place.key] if place.take is None else place.take(stored[place.key])
        assert torch.equal(taken, tensor), key


CONVOLUTIONS: dict[str, tuple[Any, ...]] = {
    'ImageNet classifier of torchvision or timm, backbone only': (
        *('conv1', 'bn1', 'layer{0}.{1}.conv{2}', 'layer{0}.{1}.bn{2}'),
        *('layer{0}.0.downsample.0', 'layer{0}.0.downsample.1', 1, 'fc.bias'),
    ),
    'ImageNet classifier of Hugging Face, backbone only': (
        *(f'resnet.embedder.embedder.{kind}' for kind in ('convolution', 'normalization')),
        *(
            f'resnet.encoder.stages.{{0}}.layers.{place}.{kind}'
            for place in ('{1}.layer.{3}', '0.shortcut')
            for kind in ('convolution', 'normalization')
        ),
        *(0, 'classifier.1.bias'),
    ),
    'ImageNet classifier of detectron2, backbone only': (
        *('stem.conv1', 'stem.conv1.norm', 'res{0}.{1}.conv{2}', 'res{0}.{1}.conv{2}.norm'),
        *('res{0}.0.shortcut', 'res{0}.0.shortcut.norm', 2, 'stem.fc.bias'),
    ),
}


@pytest.mark.parametrize('name', CONVOLUTIONS)
def test_imagenet_layouts_have_the_published_keys(published, name):
    *names, first_stage, head = CONVOLUTIONS[name]
    stem, stem_norm, conv, norm, shortcut, shortcut_norm = names
    pairs = [(stem, stem_norm)]
    for stage, blocks in enumerate((3, 4, 6, 3), first_stage):
        pairs.append((shortcut.format(stage), shortcut_norm.format(stage)))
        for place in itertools.product([stage], range(blocks), (1, 2, 3)):
            pairs.append(tuple(key.format(*place, place[2] - 1) for key in (conv, norm)))
    parts = ('weight', 'bias', 'running_mean', 'running_var')
    keys = {f'{conv}.weight' for conv, _ in pairs}
    keys |= {f'{norm}.{part}' for _, norm in pairs for part in parts}

    (layout,) = [part for part in published.layouts() if part.name == name]
    sources = {layout.source(key).key for key in published.state_dict()}
    assert len(sources) == len(published.state_dict())
    assert layout.signature in keys
    needed = {s for s in sources if not any(re.fullmatch(o, s) for o in layout.optional)}
    assert needed == keys
    assert any(re.fullmatch(extra, head) for extra in layout.extra)


def test_starts_from_an_imagenet_classifier(published, tmp_path):
    layout = published.layouts()[1]
    state = published.state_dict()
    file = {layout.source(key).key: t for key, t in state.items() if key.startswith('backbone.')}
    torch.save({**file, 'fc.bias': torch.zeros(1000)}, tmp_path / 'resnet50.pth')
    model = mask2former_resnet50(19)
    report = checkpoints.load(model, tmp_path / 'resnet50.pth')
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, published.backbone.state_dict()[key]), key
    assert untrained(model, report) == ['classifier', 'decoder', 'pixel_decoder']


@pytest.mark.slow
def test_loads_a_file_without_uncertainty_head(published, tmp_path):
    stored = {
        f'module.{key}': tensor.contiguous()
        for key, tensor in in_file(published).items()
        if 'class_embed2' not in key and not key.endswith('num_batches_tracked')
    }
    save_file(stored, tmp_path / 'weights.safetensors')
    model = mask2former_resnet50(19)
    report = checkpoints.load(model, tmp_path / 'weights.safetensors')
    assert len(report.used) == 667 - 2 - 53
    assert not report.left_over
    expected = published.state_dict() | {
        f'uncertainty.classifier.{kind}': getattr(published.classifier, kind)
        for kind in ('weight', 'bias')
    }
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(1, 3, 65, 97), (2, 3, 32, 41)])
@torch.no_grad()
def test_any_size_gives_outputs_of_that_size(published, shape):
    image = torch.randn(shape)
    batch, _, height, width = shape
    prediction = published(image)
    assert prediction.logits.shape == (batch, 19, height, width)
    assert prediction.score.shape == (batch, height, width)
    padded = F.pad(image, (0, -width % 32, 0, -height % 32))
    rows, columns = padded.shape[2] // 4, padded.shape[3] // 4
    assert prediction.feature.shape == (batch, 256, -(-height // 4), -(-width // 4))
    assert prediction.masks.class_logits.shape == (batch, 100, 20)
    assert prediction.masks.uncertainty_logits.shape == (batch, 100, 20)
    assert prediction.masks.mask_logits.shape == (batch, 100, rows, columns)
    whole = published(padded)
    torch.testing.assert_close(
        prediction.logits, whole.logits[..., :height, :width], atol=1e-5, rtol=1e-5
    )
    small = published(image, size=(17, 25))
    assert small.logits.shape == (batch, 19, 17, 25)
    assert small.score.shape == (batch, 17, 25)


@pytest.mark.slow
@torch.no_grad()
def test_the_score_starts_as_the_classifier_s(published):
    model = mask2former_resnet50(7).eval()
    image = torch.randn(1, 3, 40, 40)
    before = model(image)
    assert not torch.allclose(before.score, 1 - before.logits.amax(1))
    model.init_uncertainty_from_classifier()
    after = model(image)
    assert torch.equal(after.score, 1 - after.logits.amax(1))
    assert after.logits.shape == (1, 7, 40, 40)


@pytest.mark.slow
def test_gradients_of_the_score_pass_the_uncertainty_head_alone():
    model = mask2former_resnet50(19).train()
    model.init_uncertainty_from_classifier()
    norms = {
        f'{name}.{kind}': tensor.clone()
        for name, module in model.named_modules()
        if isinstance(module, FrozenBatchNorm2d)
        for kind, tensor in module.state_dict().items()
    }
    model(torch.randn(2, 3, 64, 64)).score.mean().backward()
    assert model.classifier.weight.grad is None
    assert model.classifier.bias.grad is None
    assert model.uncertainty.classifier.weight.grad.abs().sum() > 0
    unreached = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None and not name.startswith('classifier.')
    }
    assert not unreached
    assert model.backbone.embedder.embedder.convolution.weight.grad.abs().sum() > 0
    assert len(norms) == 5 * 53
    state = model.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in norms.items())
    assert not norms.keys() & dict(model.named_parameters()).keys()


@pytest.mark.slow
@torch.no_grad()
def test_training_mode_changes_no_output_but_where_classes_are_joined_first(published):
    image = torch.randn(1, 3, 61, 64)
    expected = published(image).score
    model = mask2former_resnet50(19)
    model.load_state_dict(published.state_dict())
    torch.testing.assert_close(model.train()(image).score, expected)
    model.classes_first = True
    trained = model(image)
    small, _ = join_classes_first(trained.masks, 4, (61, 64), None)
    torch.testing.assert_close(trained.logits, small)
    assert (trained.score - expected).abs().max() > 1e-4
    torch.testing.assert_close(model.eval()(image).score, expected)


def attend(attention, query, key, value, allowed):
    """Return attention in float64, head by head and query by query."""
    q, k, v = attention.query(query), attention.key(key), attention.value(value)
    width = q.shape[-1] // attention.heads
    output = torch.zeros_like(q)
    for b in range(q.shape[0]):
        for head in range(attention.heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(q.shape[1]):
                seen = [j for j in range(k.shape[1]) if allowed(b, i, j)]
                seen = seen or list(range(k.shape[1]))
                weights = (k[b, seen, part] @ q[b, i, part] / width**0.5).softmax(0)
                output[b, i, part] = weights @ v[b, seen, part]
    return attention.output(output)


@torch.no_grad()
def test_global_attention_looks_on_both_sides_of_the_mask():
    attention = GlobalAttention(8, 2, queries=5)
    query = torch.randn(2, 5, 8)
    key, value = torch.randn(2, 12, 8), torch.randn(2, 12, 8)
    logits = torch.randn(2, 5, 12)
    logits[0, 0] = -3  # nothing in the foreground
    logits[1, 1] = 3  # nothing in the background
    logits[0, 2] = 0  # exactly 0.5 everywhere
    logits[1, 3, :4] = 0
    logits[1, 3, 4:] = -1  # of the foreground, only what is exactly 0.5
    output = attention(query, key, value, attention_masks(logits))

    attention.double()
    sigmoid = logits.double().sigmoid()
    inputs = query.double(), key.double(), value.double()
    expected = attend(attention.foreground, *inputs, lambda b, i, j: sigmoid[b, i, j] >= 0.5)
    expected += attend(attention.background, *inputs, lambda b, i, j: sigmoid[b, i, j] <= 0.5)
    torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-5)

    masks = attention_masks(logits)
    assert masks.foreground[0, 0].all() and masks.background[0, 0].all()
    assert masks.foreground[1, 1].all() and masks.background[1, 1].all()
    assert masks.foreground[0, 2].all() and masks.background[0, 2].all()
    assert masks.foreground[1, 3].tolist() == [True] * 4 + [False] * 8
    assert masks.background[1, 3].all()


@torch.no_grad()
def test_deformable_attention_equals_that_of_transformers():
    theirs = Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(32, 4, 3, 4)
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    shapes = [(2, 3), (4, 6), (8, 12)]
    pixels = sum(height * width for height, width in shapes)
    arguments = {
        'hidden_states': torch.randn(2, pixels, 32),
        'encoder_hidden_states': torch.randn(2, pixels, 32),
        'position_embeddings': torch.randn(2, pixels, 32),
        'reference_points': Mask2FormerPixelDecoderEncoderOnly.get_reference_points(
            shapes, torch.ones(2, 3, 2), 'cpu'
        ),
        'spatial_shapes_list': shapes,
        'attention_mask': torch.zeros(2, pixels, dtype=torch.bool),
    }
    expected = theirs(**arguments)[0]
    torch.testing.assert_close(
        DeformableAttention(theirs)(**arguments)[0], expected, atol=1e-5, rtol=1e-5
    )


def random_masks(queries: int, height: int, width: int) -> MaskPrediction:
    return MaskPrediction(
        torch.randn(2, queries, 4),
        torch.randn(2, queries, 4),
        3 * torch.randn(2, queries, height, width),
    )


@pytest.mark.parametrize('values', [1, 2000, 10**9])
def test_maps_sum_over_queries_after_upsampling(values, monkeypatch):
    monkeypatch.setattr(mask2former_output, '_BAND_VALUES', values)
    masks = random_masks(5, 8, 16)
    logits, score = join_masks(masks, 4, (29, 61), None)
    large = F.interpolate(
        masks.mask_logits.double(), scale_factor=4, mode='bilinear', align_corners=False
    )
    large = large[..., :29, :61].sigmoid()
    for b in range(2):
        known = torch.zeros(3, 29, 61, dtype=torch.float64)
        doubted = torch.zeros_like(known)
        for q in range(5):
            for c in range(3):
                known[c] += masks.class_logits[b, q].double().softmax(0)[c] * large[b, q]
                doubted[c] += masks.uncertainty_logits[b, q].double().softmax(0)[c] * large[b, q]
        torch.testing.assert_close(logits[b].double(), known, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(score[b].double(), 1 - doubted.amax(0), atol=1e-5, rtol=1e-5)


def test_joined_first_maps_are_sums_over_queries_upsampled():
    """Each query and class by itself, in float64, at a quarter of the size."""
    masks = random_masks(5, 8, 16)
    logits, score = join_classes_first(masks, 4, (29, 61), None)
    quarter = masks.mask_logits.double().sigmoid()
    for b in range(2):
        known = torch.zeros(3, 8, 16, dtype=torch.float64)
        doubted = torch.zeros_like(known)
        for q in range(5):
            for c in range(3):
                known[c] += masks.class_logits[b, q].double().softmax(0)[c] * quarter[b, q]
                doubted[c] += masks.uncertainty_logits[b, q].double().softmax(0)[c] * quarter[b, q]
        large = F.interpolate(
            torch.stack([known, doubted]), scale_factor=4, mode='bilinear', align_corners=False
        )[..., :29, :61]
        torch.testing.assert_close(logits[b].double(), large[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(score[b].double(), 1 - large[1].amax(0), atol=1e-5, rtol=1e-5)
    # Another order than that of inference, and another score.
    assert (score - join_masks(masks, 4, (29, 61), None)[1]).abs().mean() > 0.02
    other = join_classes_first(masks, 4, (29, 61), (30, 50))
    assert other[0].shape == (2, 3, 30, 50) and other[1].shape == (2, 30, 50)


def kept_for_gradients(join, masks, image):
    """Return the bytes that the graph of a score keeps, each storage once."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # alive, so addresses differ
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _, score = join(masks, 4, image, None)
        score.mean().backward()
    return sum(size for size, _ in storages.values())


def test_classes_joined_first_keep_a_fraction_for_the_gradient():
    """The figures of docs/training.md, at a size where they can be counted: all grow alike."""
    batch, queries, classes, side = 2, 100, 19, 16
    pixels = (4 * side) ** 2
    given = MaskPrediction(
        torch.randn(batch, queries, classes + 1, requires_grad=True),
        torch.randn(batch, queries, classes + 1, requires_grad=True),
        torch.randn(batch, queries, side, side, requires_grad=True),
    )
    first = kept_for_gradients(join_classes_first, given, (4 * side, 4 * side))
    masks = kept_for_gradients(join_masks, given, (4 * side, 4 * side))
    small = 1.2 * 4 * batch * queries * (side**2 + 3 * (classes + 1))  # masks, classes' softmax
    assert first <= 8 * batch * pixels + small  # an index per pixel
    assert masks >= 4 * batch * queries * pixels
    # Bytes for each pixel; those of the queries themselves are spread over few pixels here.
    assert masks / batch / pixels == pytest.approx(412, rel=0.01)
    assert first / batch / pixels == pytest.approx(37, rel=0.01)


@pytest.mark.parametrize('size', [(8, 15), (30, 50), (58, 122), (29, 60)])
def test_other_sizes_cover_the_image_and_not_its_padding(size):
    """Masks that rise from left to right by a known slope are sampled at known places."""
    columns = torch.arange(16.0).expand(2, 5, 8, 16)
    masks = random_masks(5, 8, 16)._replace(mask_logits=0.3 * columns - 2)
    logits, score = join_masks(masks, 4, (29, 61), size)
    assert logits.shape == (2, 3, *size)
    assert score.shape == (2, *size)
    places = (torch.arange(size[1]) + 0.5) * 61 / size[1] / 4 - 0.5
    mask = (0.3 * places.clamp(0, 15) - 2).sigmoid().expand(size)
    weights = masks.class_logits.softmax(-1)[..., :3].sum(1)
    expected = weights[..., None, None] * mask
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_folder_gives_what_transformers_gives(folder):
    path, theirs = folder
    model = mask2former_from_folder(5, folder=path).eval()
    report = checkpoints.load(model, path)
    assert set(report.missing) == {'uncertainty.classifier.weight', 'uncertainty.classifier.bias'}
    assert not report.left_over

    image = torch.randn(2, 3, 65, 97)
    ours = model(image)
    expected = theirs(F.pad(image, (0, 31, 0, 31)))
    assert 0.2 < (expected.masks_queries_logits < 0).float().mean() < 0.8
    close: Any = {'atol': 1e-3, 'rtol': 1e-5}  # of mask logits around 100
    torch.testing.assert_close(ours.masks.class_logits, expected.class_queries_logits, **close)
    torch.testing.assert_close(ours.masks.mask_logits, expected.masks_queries_logits, **close)

    # Its post-processing is for images of 384x384, to which ours adds no padding.
    image = torch.randn(1, 3, 384, 384)
    ours = model(image)
    (expected,) = Mask2FormerImageProcessorPil().post_process_semantic_segmentation(
        theirs(image), return_segmentation_scores=True
    )
    torch.testing.assert_close(ours.logits[0], expected.segmentation_scores, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(ours.score, 1 - ours.logits.amax(1))


@pytest.mark.parametrize(
    ('change', 'fault'),
    [
        ({'model_type': 'segformer'}, "model_type is 'segformer'"),
        ({'backbone_config': None}, 'lacks backbone_config'),
        ({'backbone_config': {'model_type': 'unheard-of'}}, 'unheard-of'),
        ({'num_queries': 'many'}, 'num_queries'),
        ({'hidden_dim': 64}, 'hidden_dim is 64; only 32'),
        ({'num_attention_heads': 5}, 'divisible'),
        ({'pre_norm': True}, 'pre_norm is True; only False'),
        ({'id2label': {'0': 'road'}}, '1 labels, the model is made for 5 classes'),
    ],
)
def test_refuses_a_folder_it_cannot_follow(folder, tmp_path, change, fault):
    fields = json.loads((folder[0] / 'config.json').read_text())
    (tmp_path / 'config.json').write_text(json.dumps({**fields, **change}))
    with pytest.raises(MultishiftError, match=re.escape(fault)) as caught:
        mask2former_from_folder(5, folder=tmp_path)
    assert str(tmp_path / 'config.json') in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('content', [None, '{', '[]'])
def test_refuses_a_folder_without_a_configuration(tmp_path, content):
    if content is not None:
        (tmp_path / 'config.json').write_text(content)
    with pytest.raises(MultishiftError, match=r'config\.json'):
        mask2former_from_folder(5, folder=tmp_path)


class Maps(torch.nn.Module):
    """What an exported program returns of a network."""

    def __init__(self, model: Mask2Former) -> None:
        super().__init__()
        self.model = model

    def forward(self, image):
        prediction = self.model(image)
        return prediction.logits, prediction.score


@pytest.mark.slow
@pytest.mark.parametrize('folder', ['swin'], indirect=True)
@torch.no_grad()
def test_exports_as_one_graph(folder):
    model = mask2former_from_folder(5, folder=folder[0]).eval()
    checkpoints.load(model, folder[0])
    model.decoder = QueryDecoder(
        GlobalAttention, layers=3, queries=7, channels=32, mask_channels=32, heads=4, hidden=32
    )
    maps = Maps(model)
    program = torch.export.export(maps, (torch.randn(1, 3, 65, 97),), strict=False)
    image = torch.randn(1, 3, 65, 97)
    for traced, eager in zip(program.module()(image), maps(image), strict=True):
        torch.testing.assert_close(traced, eager)
