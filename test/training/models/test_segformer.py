# SPDX-License-Identifier: Apache-2.0
"""SegFormer against transformers, and against MMSegmentation's arithmetic written out here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import math
from pathlib import Path

import openvino as ov
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    SegformerConfig,
    SegformerForImageClassification,
    SegformerForSemanticSegmentation,
)

from multishift_perception.errors import MultishiftError
from multishift_training import checkpoints
from multishift_training.checkpoints.key_matching import untrained
from multishift_training.models.layout import Layout, Source
from multishift_training.models.segformer import MIN_SIDE, VARIANTS, SegFormer, Variant
from multishift_training.models.segformer_layouts import Form

CLASSES = 5
TINY = Variant(depths=(1, 2, 1, 1), channels=(8, 16, 40, 64), width=24)
ODD_SIZES = [(65, 97), (101, 64), (29, 150)]
# Xie et al., tables 1 and 6, on the 150 classes of ADE20K, in millions.
PUBLISHED_SIZES = {'b0': 3.8, 'b1': 13.7, 'b2': 27.5, 'b3': 47.3, 'b4': 64.1, 'b5': 84.7}


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


def tiny(form: Form = Form.HUGGING_FACE) -> SegFormer:
    model = SegFormer(TINY, CLASSES)
    own_layout(model, form).adapt()
    scramble(model)
    return model.eval()


def own_layout(model: SegFormer, form: Form) -> Layout:
    (layout,) = [
        part
        for part in model.layouts()
        if part.name.startswith('multishift') and form.value in part.name
    ]
    return layout


@torch.no_grad()
def scramble(model: nn.Module) -> None:
    """Give every tensor values that a wrong use of it would show."""
    for name, tensor in model.state_dict().items():
        if name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.add_(0.1 * torch.randn_like(tensor))


def config(variant: Variant) -> SegformerConfig:
    return SegformerConfig(  # type: ignore[call-arg]
        depths=variant.depths,
        hidden_sizes=variant.channels,
        decoder_hidden_size=variant.width,
        num_labels=CLASSES,
    )


def saved(model: nn.Module, folder: Path) -> Path:
    scramble(model)
    model.eval().save_pretrained(folder)
    return folder


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


# The networks


@pytest.mark.parametrize('name', VARIANTS)
def test_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device('meta'):
        model = SegFormer(VARIANTS[name], num_classes=150)
    count = sum(p.numel() for p in model.parameters())
    head = sum(p.numel() for p in model.uncertainty.parameters())
    assert round((count - head) / 1e6, 1) == PUBLISHED_SIZES[name.removeprefix('segformer_')]


@pytest.mark.slow
@pytest.mark.parametrize('form', Form)
@pytest.mark.parametrize('name', VARIANTS)
def test_shapes(name: str, form: Form) -> None:
    with torch.device('meta'):
        model = SegFormer(VARIANTS[name])
        own_layout(model, form).adapt()
        prediction = model(torch.empty(2, 3, 65, 97))
    width = VARIANTS[name].width if form is Form.HUGGING_FACE else 256
    assert prediction.logits.shape == (2, 19, 65, 97)
    assert prediction.score.shape == (2, 65, 97)
    assert prediction.feature.shape == (2, width, 17, 25)
    assert prediction.masks is None


def test_size_sets_that_of_logits_and_score() -> None:
    model, image = tiny(), torch.randn(1, 3, 65, 97)
    coarse = model(image, size=(17, 25))
    assert coarse.logits.shape == (1, CLASSES, 17, 25)
    whole = model(image)
    torch.testing.assert_close(whole.logits, enlarged(coarse.logits, (65, 97)))
    torch.testing.assert_close(whole.score, enlarged(coarse.score[:, None], (65, 97))[:, 0])


@pytest.mark.parametrize('form', Form)
def test_score_starts_as_the_energy_of_the_classifier(form: Form) -> None:
    model, image = tiny(form), torch.randn(1, 3, 65, 97)
    model.init_uncertainty_from_classifier()
    prediction = model(image, size=(17, 25))
    assert torch.equal(prediction.score, -prediction.logits.logsumexp(1))


@pytest.mark.parametrize('form', Form)
def test_gradients_reach_all_but_the_other_head(form: Form) -> None:
    model, image = tiny(form).train(), torch.randn(2, 3, 64, 96)
    for output, other in (('logits', 'uncertainty'), ('score', 'classifier')):
        model.zero_grad()
        getattr(model(image), output).square().mean().backward()
        unreached = {
            name
            for name, p in model.named_parameters()
            # A shift of all keys cancels out in the softmax.
            if not name.endswith('k_proj.bias') and (p.grad is None or not p.grad.any())
        }
        assert unreached == {n for n, _ in model.named_parameters() if n.startswith(other)}


def test_training_normalises_by_the_batch() -> None:
    model, image = tiny(), torch.randn(2, 3, 64, 96)
    before = model.decoder.norm.running_mean.clone()
    model.train()(image)
    assert not torch.equal(model.decoder.norm.running_mean, before)


def test_refuses_an_image_too_small_for_its_attention() -> None:
    with pytest.raises(MultishiftError, match=f'28x64 .* at least {MIN_SIDE}x{MIN_SIDE}'):
        tiny()(torch.randn(1, 3, MIN_SIDE - 1, 64))
    assert tiny()(torch.randn(1, 3, MIN_SIDE, MIN_SIDE)).logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize('form', Form)
def test_exports_to_openvino(form: Form) -> None:
    model, image = tiny(form), torch.randn(1, 3, 65, 97)
    program = torch.export.export(model, (image,), strict=False)
    engine = ov.compile_model(
        ov.convert_model(program), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'}
    )
    with torch.no_grad():
        logits, score, *_ = model(image)
    outputs = engine(image.numpy())
    torch.testing.assert_close(torch.from_numpy(outputs[0]), logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.from_numpy(outputs[1]), score, atol=1e-4, rtol=1e-4)


# Hugging Face's files


@pytest.mark.parametrize('size', ODD_SIZES)
def test_equals_transformers(size: tuple[int, int], tmp_path: Path) -> None:
    reference = SegformerForSemanticSegmentation(config(TINY))
    model = SegFormer(TINY, CLASSES).eval()
    checkpoints.load(model, saved(reference, tmp_path))
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits = reference(image).logits
        prediction = model(image)
    energy = -logits.logsumexp(1, keepdim=True)
    torch.testing.assert_close(prediction.logits, enlarged(logits, size), atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.score, enlarged(energy, size)[:, 0], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_uses_all_of_a_folder_of_the_smallest_network(tmp_path: Path) -> None:
    variant = VARIANTS['segformer_b0']
    saved(SegformerForSemanticSegmentation(config(variant)), tmp_path)
    report = checkpoints.load(SegFormer(variant, CLASSES), tmp_path)
    assert report.layout == 'SegFormer of Hugging Face'
    assert set(report.used) == load_file(tmp_path / 'model.safetensors').keys()
    assert set(report.missing) == {'uncertainty.proxy.weight', 'uncertainty.proxy.bias'}


def test_takes_the_encoder_of_an_image_classifier(tmp_path: Path) -> None:
    reference = SegformerForImageClassification(config(TINY))
    model = SegFormer(TINY, CLASSES).eval()
    classifier = model.classifier.weight.clone()
    report = checkpoints.load(model, saved(reference, tmp_path))
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = reference.segformer(image).last_hidden_state
        actual = model.backbone(image).last_hidden_state
    torch.testing.assert_close(actual, expected)
    assert report.left_over == ('classifier.bias', 'classifier.weight')
    assert torch.equal(model.classifier.weight, classifier)


# MMSegmentation's files


def mmsegmentation_weights(variant: Variant) -> dict[str, Tensor]:
    """Return random weights of a network trained by MMSegmentation."""
    weights: dict[str, Tensor] = {}

    def layer(name: str, *shape: int, bias: bool = True, separator: str = '.') -> None:
        scale = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f'{name}{separator}weight'] = scale * torch.randn(shape)
        if bias:
            weights[f'{name}{separator}bias'] = 0.1 * torch.randn(shape[0])

    def norm(name: str, width: int, *, batch: bool = False) -> None:
        weights[f'{name}.weight'] = 1 + 0.1 * torch.randn(width)
        weights[f'{name}.bias'] = 0.1 * torch.randn(width)
        if batch:
            weights[f'{name}.running_mean'] = 0.1 * torch.randn(width)
            weights[f'{name}.running_var'] = 0.5 + torch.rand(width)
            weights[f'{name}.num_batches_tracked'] = torch.tensor(7)

    before = 3
    for stage, c in enumerate(variant.channels):
        patch = 7 if stage == 0 else 3
        layer(f'backbone.layers.{stage}.0.projection', c, before, patch, patch)
        norm(f'backbone.layers.{stage}.0.norm', c)
        for number in range(variant.depths[stage]):
            block = f'backbone.layers.{stage}.1.{number}'
            norm(f'{block}.norm1', c)
            layer(f'{block}.attn.attn.in_proj', 3 * c, c, separator='_')
            layer(f'{block}.attn.attn.out_proj', c, c)
            if cell := (8, 4, 2, 0)[stage]:
                layer(f'{block}.attn.sr', c, c, cell, cell)
                norm(f'{block}.attn.norm', c)
            norm(f'{block}.norm2', c)
            layer(f'{block}.ffn.layers.0', 4 * c, c, 1, 1)
            layer(f'{block}.ffn.layers.1', 4 * c, 1, 3, 3)
            layer(f'{block}.ffn.layers.4', c, 4 * c, 1, 1)
        norm(f'backbone.layers.{stage}.2', c)
        layer(f'decode_head.convs.{stage}.conv', 256, c, 1, 1, bias=False)
        norm(f'decode_head.convs.{stage}.bn', 256, batch=True)
        before = c
    layer('decode_head.fusion_conv.conv', 256, 4 * 256, 1, 1, bias=False)
    norm('decode_head.fusion_conv.bn', 256, batch=True)
    layer('decode_head.conv_seg', CLASSES, 256, 1, 1)
    return weights


def mmsegmentation_logits(weights: dict[str, Tensor], image: Tensor, variant: Variant) -> Tensor:
    """Return the logits at a quarter of the image, as MMSegmentation's network computes them."""
    w = weights

    def affine(name: str) -> tuple[Tensor, Tensor]:
        return w[f'{name}.weight'], w[f'{name}.bias']

    def layer_norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x.movedim(1, -1), x.shape[1:2], *affine(name), eps=1e-6).movedim(-1, 1)

    def batch_norm_relu(name: str, x: Tensor) -> Tensor:
        running = w[f'{name}.running_mean'], w[f'{name}.running_var']
        return F.batch_norm(x, *running, *affine(name)).relu()

    def attention(name: str, x: Tensor, heads: int) -> Tensor:
        context, width = x, x.shape[1]
        if f'{name}.sr.weight' in w:
            cell = w[f'{name}.sr.weight'].shape[-1]
            context = F.conv2d(x, *affine(f'{name}.sr'), stride=cell)
            context = layer_norm(f'{name}.norm', context)
        inner = nn.MultiheadAttention(width, heads, batch_first=True)
        prefix = f'{name}.attn.'
        inner.load_state_dict(
            {k.removeprefix(prefix): v for k, v in w.items() if k.startswith(prefix)}
        )
        context = context.flatten(2).mT
        out = inner(x.flatten(2).mT, context, context)[0]
        return out.mT.unflatten(2, x.shape[2:])

    def feed_forward(name: str, x: Tensor) -> Tensor:
        x = F.conv2d(x, *affine(f'{name}.0'))
        x = F.conv2d(x, *affine(f'{name}.1'), padding=1, groups=x.shape[1])
        return F.conv2d(F.gelu(x), *affine(f'{name}.4'))

    x = image
    levels: list[Tensor] = []
    for stage, heads in enumerate((1, 2, 5, 8)):
        name = f'backbone.layers.{stage}'
        stride, padding = (4, 3) if stage == 0 else (2, 1)
        x = F.conv2d(x, *affine(f'{name}.0.projection'), stride=stride, padding=padding)
        x = layer_norm(f'{name}.0.norm', x)
        for number in range(variant.depths[stage]):
            block = f'{name}.1.{number}'
            x = x + attention(f'{block}.attn', layer_norm(f'{block}.norm1', x), heads)
            x = x + feed_forward(f'{block}.ffn.layers', layer_norm(f'{block}.norm2', x))
        x = layer_norm(f'{name}.2', x)
        level = F.conv2d(x, w[f'decode_head.convs.{stage}.conv.weight'])
        level = batch_norm_relu(f'decode_head.convs.{stage}.bn', level)
        levels.append(enlarged(level, levels[0].shape[2:]) if levels else level)
    x = F.conv2d(torch.cat(levels, 1), w['decode_head.fusion_conv.conv.weight'])
    x = batch_norm_relu('decode_head.fusion_conv.bn', x)
    return F.conv2d(x, *affine('decode_head.conv_seg'))


@pytest.mark.parametrize('size', ODD_SIZES)
def test_equals_mmsegmentation(size: tuple[int, int], tmp_path: Path) -> None:
    weights = mmsegmentation_weights(TINY)
    # So faint an image that the epsilon of the first norm matters.
    image = 0.01 * torch.randn(2, 3, *size)
    weights['backbone.layers.0.0.projection.bias'].zero_()
    torch.save({'meta': {}, 'state_dict': weights}, tmp_path / 'segformer_mit-b0.pth')
    model = SegFormer(TINY, CLASSES).eval()
    report = checkpoints.load(model, tmp_path / 'segformer_mit-b0.pth')
    with torch.no_grad():
        logits = mmsegmentation_logits(weights, image, TINY)
        prediction = model(image)
    energy = -logits.logsumexp(1, keepdim=True)
    torch.testing.assert_close(prediction.logits, enlarged(logits, size), atol=1e-5, rtol=0)
    torch.testing.assert_close(prediction.score, enlarged(energy, size)[:, 0], atol=1e-5, rtol=0)
    assert report.layout == 'SegFormer of MMSegmentation'
    assert model.form is Form.MMSEGMENTATION


def test_leaves_out_an_auxiliary_head(tmp_path: Path) -> None:
    weights = mmsegmentation_weights(TINY) | {'auxiliary_head.conv_seg.weight': torch.ones(5, 3)}
    torch.save(weights, tmp_path / 'weights.pth')
    report = checkpoints.load(SegFormer(TINY, CLASSES), tmp_path / 'weights.pth')
    assert report.left_over == ('auxiliary_head.conv_seg.weight',)


def test_takes_an_encoder_file_of_mmsegmentation(tmp_path: Path) -> None:
    weights = mmsegmentation_weights(TINY)
    encoder = {
        key.removeprefix('backbone.'): tensor
        for key, tensor in weights.items()
        if key.startswith('backbone.')
    }
    torch.save(encoder, tmp_path / 'mit_b0.pth')
    torch.save(weights, tmp_path / 'whole.pth')
    model, whole = SegFormer(TINY, CLASSES).eval(), SegFormer(TINY, CLASSES).eval()
    report = checkpoints.load(model, tmp_path / 'mit_b0.pth')
    checkpoints.load(whole, tmp_path / 'whole.pth')
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        expected = whole.backbone(image).last_hidden_state
        assert torch.equal(model.backbone(image).last_hidden_state, expected)
    assert model.form is Form.MMSEGMENTATION
    assert set(report.used) == encoder.keys()


def test_backbone_of_nvidias_classifier(tmp_path: Path) -> None:
    """Their names from the table here, written out for the two structures that a block has."""
    whole = tiny()
    layers = {
        'layernorm_before': 'norm1',
        'attention.q_proj': 'attn.q',
        'attention.o_proj': 'attn.proj',
        'attention.sequence_reduction.sequence_reduction': 'attn.sr',
        'attention.sequence_reduction.layer_norm': 'attn.norm',
        'layernorm_after': 'norm2',
        'mlp.fc1': 'mlp.fc1',
        'mlp.dwconv.dwconv': 'mlp.dwconv.dwconv',
        'mlp.fc2': 'mlp.fc2',
    }
    state = whole.backbone.state_dict()
    file = {'head.weight': torch.zeros(1000, 256), 'head.bias': torch.zeros(1000)}
    for stage, blocks in enumerate(TINY.depths):
        ours, number = f'stages.{stage}', stage + 1
        for kind in ('weight', 'bias'):
            for name, theirs in (('proj', 'proj'), ('layer_norm', 'norm')):
                file[f'patch_embed{number}.{theirs}.{kind}'] = state[
                    f'{ours}.patch_embeddings.{name}.{kind}'
                ]
            file[f'norm{number}.{kind}'] = state[f'{ours}.layer_norm.{kind}']
            for block in range(blocks):
                place, theirs = f'{ours}.blocks.{block}', f'block{number}.{block}'
                for name, layer in layers.items():
                    if f'{place}.{name}.{kind}' in state:
                        file[f'{theirs}.{layer}.{kind}'] = state[f'{place}.{name}.{kind}']
                file[f'{theirs}.attn.kv.{kind}'] = torch.cat(
                    [state[f'{place}.attention.{part}_proj.{kind}'] for part in 'kv']
                )
    torch.save(file, tmp_path / 'mit_b0.pth')
    model = SegFormer(TINY, CLASSES).eval()
    report = checkpoints.load(model, tmp_path / 'mit_b0.pth')
    for key, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, state[key]), key
    assert report.left_over == ('head.bias', 'head.weight')
    assert untrained(model, report) == ['classifier', 'decoder']


# Layouts


def hugging_face_weights(variant: Variant, folder: Path) -> dict[str, Tensor]:
    saved(SegformerForSemanticSegmentation(config(variant)), folder)
    return load_file(folder / 'model.safetensors')


@pytest.mark.parametrize(
    ('name', 'weights'),
    [
        ('SegFormer of Hugging Face', hugging_face_weights),
        ('SegFormer of MMSegmentation', lambda variant, _: mmsegmentation_weights(variant)),
    ],
)
def test_every_number_of_a_file_has_one_place(
    name: str, weights: Callable[[Variant, Path], dict[str, Tensor]], tmp_path: Path
) -> None:
    model = SegFormer(TINY, CLASSES)
    (layout,) = [part for part in model.layouts() if part.name == name]
    layout.adapt()
    # Every number of the file is another one, so that none can be taken twice or left out.
    start, file = 0, {}
    for key, tensor in weights(TINY, tmp_path).items():
        file[key] = torch.arange(start, start + tensor.numel()).view(tensor.shape)
        start += tensor.numel()
    taken = []
    for key, tensor in model.state_dict().items():
        if key.startswith('uncertainty.'):
            continue
        source = layout.source(key)
        piece = source.take(file[source.key]) if source.take else file[source.key]
        assert piece.shape == tensor.shape, key
        taken.append(piece.flatten())
    assert torch.equal(torch.cat(taken).sort().values, torch.arange(start))


def test_signatures_are_in_their_own_files(tmp_path: Path) -> None:
    layouts = {layout.name: layout.signature for layout in SegFormer(TINY).layouts()}
    assert layouts['SegFormer of Hugging Face'] in hugging_face_weights(TINY, tmp_path)
    assert layouts['SegFormer of MMSegmentation'] in mmsegmentation_weights(TINY)
    assert len(set(layouts.values())) == len(layouts) == 7


def test_what_a_method_added_has_its_own_name_in_every_layout() -> None:
    key = 'discriminator.layers.0.weight'
    for layout in SegFormer(TINY).layouts():
        assert layout.source(key) == Source(key)


@pytest.mark.parametrize('form', Form)
def test_own_weights_say_which_form_they_are(form: Form, tmp_path: Path) -> None:
    trained = tiny(form)
    state = {key: tensor.contiguous() for key, tensor in trained.state_dict().items()}
    save_file(state, tmp_path / 'best.safetensors')
    model = SegFormer(TINY, CLASSES).eval()
    report = checkpoints.load(model, tmp_path / 'best.safetensors')
    image = torch.randn(1, 3, 65, 97)
    with torch.no_grad():
        for actual, expected in zip(model(image)[:3], trained(image)[:3], strict=True):
            assert torch.equal(actual, expected)
    assert model.form is form
    assert report.layout == own_layout(model, form).name
    assert not report.missing and not report.left_over


@pytest.mark.parametrize('form', Form)
def test_undoing_gives_the_same_network_back(form: Form) -> None:
    (other,) = set(Form) - {form}
    model, image = tiny(form), torch.randn(1, 3, 65, 97)
    keys = model.state_dict().keys()
    with torch.no_grad():
        expected = model(image)
        undo = own_layout(model, other).adapt()
        assert model.form is other
        assert model.state_dict().keys() != keys
        undo()
        actual = model(image)
    assert model.form is form
    assert model.state_dict().keys() == keys
    assert torch.equal(actual.logits, expected.logits)
    assert torch.equal(actual.score, expected.score)


def test_adapting_to_the_same_form_changes_nothing() -> None:
    model = tiny()
    decoder = model.decoder
    own_layout(model, Form.HUGGING_FACE).adapt()()
    assert model.decoder is decoder


def test_adapting_keeps_mode_and_type() -> None:
    model = tiny().double().eval()
    own_layout(model, Form.MMSEGMENTATION).adapt()
    assert not any(module.training for module in model.modules())
    assert {p.dtype for p in model.parameters()} == {torch.float64}


@pytest.mark.slow
def test_a_file_that_does_not_fit_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    weights = mmsegmentation_weights(TINY)
    del weights['backbone.layers.2.1.0.attn.attn.in_proj_weight']
    torch.save(weights, tmp_path / 'broken.pth')
    model, image = tiny(), torch.randn(1, 3, 65, 97)
    expected = model(image).logits
    with pytest.raises(MultishiftError, match=r'layers\.2\.1\.0\.attn\.attn\.in_proj_weight'):
        checkpoints.load(model, tmp_path / 'broken.pth')
    assert model.form is Form.HUGGING_FACE
    assert torch.equal(model(image).logits, expected)
