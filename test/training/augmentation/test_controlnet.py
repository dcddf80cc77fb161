# SPDX-License-Identifier: Apache-2.0
"""The real diffusion pipeline, with tiny networks of random weights in local folders."""

from __future__ import annotations

import json
from pathlib import Path
import shutil
from typing import Any

import cv2
from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch
from torch.nn import Conv2d
from transformers import CLIPTextConfig, CLIPTextModel

from multishift_perception.classes import NOVEL
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.config import ControlNetGenerator
from multishift_training.augmentation.controlnet import ControlNet
from multishift_training.augmentation.parts import Composition, NovelObject, Scene

pytestmark = pytest.mark.usefixtures('one_thread')

CHANNELS = (16, 32)
TEXT_WIDTH = 16


def save_tokenizer(folder: Path) -> int:
    """Write a vocabulary of single letters, and return its size."""
    letters = 'abcdefghijklmnopqrstuvwxyz0123456789,-'
    words = [
        *letters,
        *(f'{letter}</w>' for letter in letters),
        '<|startoftext|>',
        '<|endoftext|>',
    ]
    folder.mkdir(parents=True)
    (folder / 'vocab.json').write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    (folder / 'tokenizer_config.json').write_text(json.dumps({'model_max_length': 77}))
    return len(words)


def make_unet(text_width: int = TEXT_WIDTH) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
        up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
        cross_attention_dim=text_width,
        attention_head_dim=2,
    )


def save_controlnet(unet: UNet2DConditionModel, folder: Path) -> None:
    """Save a ControlNet that has an effect: as it is made, its last layers are zero."""
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 16, 16, 16))
    zero = [control.controlnet_mid_block, *control.controlnet_down_blocks]
    seen = [m for m in control.controlnet_cond_embedding.modules() if isinstance(m, Conv2d)]
    for layer in (*zero, *seen):
        torch.nn.init.kaiming_normal_(layer.weight)
    control.save_pretrained(folder)


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `base` and `controlnet`, as published ones are laid out."""
    root = tmp_path_factory.mktemp('weights')
    base = root / 'base'
    torch.manual_seed(0)
    unet = make_unet()
    unet.save_pretrained(base / 'unet')  # type: ignore[attr-defined]
    save_controlnet(unet, root / 'controlnet')
    AutoencoderKL(  # type: ignore[attr-defined]
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        down_block_types=('DownEncoderBlock2D',) * 4,
        up_block_types=('UpDecoderBlock2D',) * 4,
    ).save_pretrained(base / 'vae')
    words = save_tokenizer(base / 'tokenizer')
    text = CLIPTextConfig(
        vocab_size=words,
        hidden_size=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )
    CLIPTextModel(text).save_pretrained(base / 'text_encoder')
    # What Stable Diffusion is released with; its noise schedule holds for DDIM too.
    PNDMScheduler(  # type: ignore[attr-defined]
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule='scaled_linear',
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(base / 'scheduler')
    return root


@pytest.fixture
def copied(weights: Path, tmp_path: Path) -> Path:
    """The same folders, to be damaged."""
    return Path(shutil.copytree(weights, tmp_path / 'weights'))


def settings(weights: Path, **changes: object) -> ControlNetGenerator:
    return ControlNetGenerator.model_validate(
        {
            'kind': 'controlnet',
            'base': weights / 'base',
            'controlnet': weights / 'controlnet',
            'short_side': 64,
            'steps': 2,
            'precision': 'fp32',
            **changes,
        }
    )


@pytest.fixture(scope='module')
def painter(weights: Path) -> ControlNet:
    return ControlNet(settings(weights), torch.device('cpu'))


def composed(size: tuple[int, int] = (72, 150), left: int = 20) -> Composition:
    """A road below the sky, with a block on it."""
    labels = np.full(size, 10, np.uint8)
    labels[size[0] // 2 :] = 0
    mask = np.zeros(size, bool)
    mask[size[0] // 2 :, left : left + 30] = True
    novel = NovelObject('armchair', '', np.ones((size[0] // 2, 30), bool), None, 30)
    scene = Scene('scene', np.zeros((*size, 3), np.uint8), labels)
    return Composition(scene, novel, np.where(mask, np.uint8(NOVEL), labels), mask)


def seed(number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(number)


@pytest.mark.slow
def test_images_have_the_size_of_their_scene(painter: ControlNet) -> None:
    painted = painter.generate([composed(), composed((100, 60))], [seed(0), seed(1)])
    assert [one.image.shape for one in painted] == [(72, 150, 3), (100, 60, 3)]
    assert all(one.image.dtype == np.uint8 and one.image.std() > 1 for one in painted)
    assert all('armchair' in one.prompt for one in painted)


def test_the_image_is_handed_on_as_it_was_painted(painter: ControlNet) -> None:
    [result] = painter.generate([composed((100, 200))], [seed(0)])
    assert result.painted is not None
    assert result.painted.shape == (64, 128, 3)
    large = cv2.resize(result.painted, (200, 100), interpolation=cv2.INTER_LINEAR)
    assert (large == result.image).all()


def test_label_ids_reach_the_network(painter: ControlNet, monkeypatch: pytest.MonkeyPatch) -> None:
    composition = composed((128, 256), left=5)
    ids = np.full((128, 256), 23, np.uint8)
    ids[:, 200:] = 15  # a bridge, which has no train id
    controls = []

    def fake(prompts: list[str], **options: Any) -> object:
        controls.append(options['image'][0].permute(1, 2, 0).mul(255).round())
        return type('Output', (), {'images': torch.zeros(1, 3, 64, 128)})

    monkeypatch.setattr(painter, 'pipeline', fake)
    for label_ids in (None, ids):
        scene = composition.scene._replace(label_ids=label_ids)
        painter.generate([composition._replace(scene=scene)], [seed(0)])
    assert controls[0][10, 120].tolist() == [6, 230, 230]
    assert controls[1][10, 120].tolist() == [255, 82, 0]
    assert controls[1][10, 60].tolist() == [6, 230, 230]
    assert (controls[0][50, 10] == controls[1][50, 10]).all()  # the object


def test_the_same_seed_paints_the_same_image(painter: ControlNet) -> None:
    again = seed(3)
    first = painter.generate([composed()], [again])[0]
    second = painter.generate([composed()], [again])[0]
    other = painter.generate([composed()], [seed(4)])[0]
    assert (first.image == second.image).all()
    assert (first.prompt, first.domain) == (second.prompt, second.domain)
    assert np.abs(first.image.astype(int) - other.image).mean() > 2


def test_a_batch_paints_what_single_calls_do(painter: ControlNet) -> None:
    # The middle one has another size, and is painted apart.
    compositions = [composed(), composed((100, 60)), composed(left=90)]
    seeds = [seed(5), seed(6), seed(7)]
    together = painter.generate(compositions, seeds)
    for composition, own, painted in zip(compositions, seeds, together, strict=True):
        alone = painter.generate([composition], [own])[0]
        assert alone.prompt == painted.prompt
        assert np.abs(alone.image.astype(int) - painted.image).max() <= 2


def test_labels_and_prompt_shape_the_image(painter: ControlNet) -> None:
    left, right, named = composed(), composed(left=90), composed()
    named = named._replace(object=named.object._replace(name='qzx'))
    images = [painter.generate([c], [seed(3)])[0].image.astype(int) for c in (left, right, named)]
    assert np.abs(images[0] - images[1]).mean() > 0.5
    assert (images[0] != images[2]).any()


@pytest.mark.slow
def test_settings_reach_the_pipeline(weights: Path, painter: ControlNet) -> None:
    assert type(painter.pipeline.scheduler).__name__ == 'DDIMScheduler'
    assert painter.pipeline.safety_checker is None
    reference = painter.generate([composed()], [seed(0)])[0].image.astype(int)
    for change in ({'steps': 3}, {'guidance': 2.0}, {'scale': 0.2}):
        painted = ControlNet(settings(weights, **change), torch.device('cpu')).generate(
            [composed()], [seed(0)]
        )
        assert (painted[0].image != reference).any(), change
    sliced = ControlNet(settings(weights, attention_slicing=True), torch.device('cpu'))
    image = sliced.generate([composed()], [seed(0)])[0].image
    assert np.abs(image - reference).max() <= 2


@pytest.mark.parametrize(
    ('size', 'short_side', 'wanted'),
    [((1024, 2048), 512, (512, 1024)), ((360, 480), 512, (512, 704)), ((90, 40), 64, (128, 64))],
)
def test_painted_sizes(
    painter: ControlNet,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
    short_side: int,
    wanted: tuple[int, int],
) -> None:
    asked = []

    def fake(prompts: list[str], **options: Any) -> object:
        asked.append((options['height'], options['width']))
        control = options['image']
        assert control.shape == (1, 3, *wanted)
        assert 0 <= control.min() and control.max() <= 1
        return type('Output', (), {'images': torch.zeros(1, 3, *wanted)})

    monkeypatch.setattr(painter, 'pipeline', fake)
    monkeypatch.setattr(painter, '_config', settings(Path('unused'), short_side=short_side))
    assert painter.generate([composed(size, left=5)], [seed(0)])[0].image.shape == (*size, 3)
    assert asked == [wanted]


def test_half_precision(weights: Path, painter: ControlNet) -> None:
    half = ControlNet(settings(weights, precision='bf16'), torch.device('cpu'))
    assert half.pipeline.unet.dtype == torch.bfloat16
    assert half.pipeline.text_encoder.dtype == torch.bfloat16
    image = half.generate([composed()], [seed(0)])[0].image.astype(int)
    whole = painter.generate([composed()], [seed(0)])[0].image
    assert np.abs(image - whole).mean() < 12


def test_version_is_of_the_weights(weights: Path, copied: Path, painter: ControlNet) -> None:
    cpu = torch.device('cpu')
    assert ControlNet(settings(copied), cpu).version == painter.version
    path = copied / 'controlnet/diffusion_pytorch_model.safetensors'
    tensors = load_file(path)
    tensors['conv_in.bias'] += 1
    save_file(tensors, path, {'format': 'pt'})
    assert ControlNet(settings(copied), cpu).version != painter.version


def test_half_precision_files(copied: Path, painter: ControlNet) -> None:
    for folder, stem in (
        ('base/unet', 'diffusion_pytorch_model'),
        ('base/text_encoder', 'model'),
        ('controlnet', 'diffusion_pytorch_model'),
    ):
        path = copied / folder / f'{stem}.safetensors'
        path.rename(path.with_name(f'{stem}.fp16.safetensors'))
    image = ControlNet(settings(copied), torch.device('cpu')).generate([composed()], [seed(0)])
    assert (image[0].image == painter.generate([composed()], [seed(0)])[0].image).all()


def test_missing_folders(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(MultishiftError, match='base: folder .*/absent does not exist'):
        ControlNet(settings(weights, base=tmp_path / 'absent'))
    with pytest.raises(MultishiftError, match='controlnet: folder .*/absent does not exist'):
        ControlNet(settings(weights, controlnet=tmp_path / 'absent'))


def test_missing_files(copied: Path) -> None:
    (copied / 'base/unet/diffusion_pytorch_model.safetensors').unlink()
    (copied / 'base/tokenizer/merges.txt').unlink()
    with pytest.raises(MultishiftError, match=r'base lacks .*merges\.txt, unet/diffusion_pytorch'):
        ControlNet(settings(copied))
    # Pickled weights are none.
    (copied / 'base/unet/diffusion_pytorch_model.bin').touch()
    with pytest.raises(MultishiftError, match=r'unet/diffusion_pytorch_model\.safetensors'):
        ControlNet(settings(copied))


def test_damaged_files(copied: Path) -> None:
    path = copied / 'controlnet/diffusion_pytorch_model.safetensors'
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MultishiftError, match='controlnet cannot be loaded .*copy it again'):
        ControlNet(settings(copied))


def test_weights_that_do_not_fit_their_configuration(copied: Path) -> None:
    path = copied / 'base/vae/diffusion_pytorch_model.safetensors'
    tensors = load_file(path)
    del tensors['decoder.conv_in.bias']
    save_file(tensors, path, {'format': 'pt'})
    with pytest.raises(MultishiftError, match=r'vae: 1 weights .*decoder\.conv_in\.bias is miss'):
        ControlNet(settings(copied))


def test_controlnet_of_another_base(copied: Path) -> None:
    save_controlnet(make_unet(text_width=24), copied / 'controlnet')
    with pytest.raises(MultishiftError, match='cross_attention_dim 24.* 16: give a ControlNet'):
        ControlNet(settings(copied))


def test_overflow_is_named(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    painter = ControlNet(settings(weights), torch.device('cpu'))
    broken = painter.pipeline.vae.decoder.conv_out.bias
    with torch.no_grad():
        broken.fill_(float('nan'))
    with pytest.raises(MultishiftError, match='precision: fp32 overflows .*set bf16 or fp32'):
        painter.generate([composed()], [seed(0)])
