# SPDX-License-Identifier: Apache-2.0
"""Images from label maps by Stable Diffusion with a segmentation ControlNet.

With the published settings (ControlNet 1.0 on Stable Diffusion 1.5, short side 512, DDIM with 50
steps, guidance 9) this is CG-Aug's generator (MultiShiftSeg). Weights are local folders in the
layout of `diffusers`, in safetensors files only: nothing is downloaded, and nothing unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import diffusers
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
)
import numpy as np
import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from multishift_perception.arrays import Bytes
from multishift_perception.errors import MultishiftError
from multishift_training.augmentation.color_map import ade_color_map
from multishift_training.augmentation.config import ControlNetGenerator
from multishift_training.augmentation.diffusion_weights import (
    check_folders,
    digest,
    load_model,
    readable,
)
from multishift_training.augmentation.parts import Composition, Generated, nearest
from multishift_training.augmentation.prompts import Prompt, draw_prompt

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
# `diffusers` types some of its code only.
_Pipeline: Any = StableDiffusionControlNetPipeline
_Scheduler: Any = DDIMScheduler
# Sides that the networks halve and double again without a remainder.
_MULTIPLE = 64


class ControlNet:
    """Paints images from label maps in ADE20K's colours, and from prompts.

    Attributes:
        version: of the generator, of `diffusers`, and a digest of the weight files.
        batch: compositions that are painted together.
        pipeline: the networks, of `diffusers`.
    """

    def __init__(self, config: ControlNetGenerator, device: torch.device | None = None) -> None:
        """Load the weights.

        Args:
            config: where they are, and how to paint.
            device: where to paint; if none, the current GPU, or the CPU where there is none.

        Raises:
            MultishiftError: files are missing or do not fit; the message names them.
        """
        check_folders(config.base, config.controlnet)
        weights = digest(config.base, config.controlnet)
        self.version = f'controlnet 1 diffusers {diffusers.__version__} {weights}'
        self.batch = config.batch_size
        self._config = config
        self.pipeline = _load(config)
        self.pipeline.to(device or torch.device('cuda' if torch.cuda.is_available() else 'cpu'))

    def generate(
        self, compositions: Sequence[Composition], seeds: Sequence[np.random.SeedSequence]
    ) -> list[Generated]:
        """Paint an image for each composition.

        Prompt and noise of an image depend on its own seed alone. Noise is drawn on the CPU, and
        is the same on every device.

        Raises:
            MultishiftError: the precision does not hold the values of the networks.
        """
        sizes = [_painted_size(c.labels.shape, self._config.short_side) for c in compositions]
        painted: dict[int, Generated] = {}
        for size in dict.fromkeys(sizes):
            group = [i for i, own in enumerate(sizes) if own == size]
            images = self._paint([compositions[i] for i in group], [seeds[i] for i in group], size)
            painted.update(zip(group, images, strict=True))
        return [painted[i] for i in range(len(compositions))]

    def _paint(
        self,
        compositions: Sequence[Composition],
        seeds: Sequence[np.random.SeedSequence],
        size: tuple[int, int],
    ) -> list[Generated]:
        """Paint images of one size (rows, columns) together."""
        rngs = [np.random.default_rng(seed) for seed in seeds]
        pairs = zip(compositions, rngs, strict=True)
        prompts = [draw_prompt(c.object.name, rng) for c, rng in pairs]
        noise = [torch.Generator().manual_seed(int(rng.integers(2**63))) for rng in rngs]
        images = _as_bytes(self._run(_controls(compositions, size), prompts, noise))
        if images is None:
            raise MultishiftError(
                f'precision: {self._config.precision} overflows in the networks of '
                f'{self._config.base} or {self._config.controlnet}: set bf16 or fp32'
            )
        return [
            Generated(_resized(image, c.labels.shape), prompt.text, prompt.domain, image)
            for image, c, prompt in zip(images, compositions, prompts, strict=True)
        ]

    def _run(
        self, controls: Tensor, prompts: Sequence[Prompt], noise: list[torch.Generator]
    ) -> Tensor:
        """Run the diffusion model: images ``[B,3,h,w]``, 0..1."""
        images = self.pipeline(
            [prompt.text for prompt in prompts],
            negative_prompt=[prompt.negative for prompt in prompts],
            image=controls,
            height=controls.shape[2],
            width=controls.shape[3],
            num_inference_steps=self._config.steps,
            guidance_scale=self._config.guidance,
            controlnet_conditioning_scale=self._config.scale,
            generator=noise,
            eta=0.0,
            output_type='pt',
        ).images
        assert isinstance(images, Tensor)
        return images


def _load(config: ControlNetGenerator) -> Any:
    """Assemble the pipeline from its parts; the safety checker, which blackens images, is none."""
    base, dtype = config.base, _DTYPES[config.precision]
    with readable(base / 'tokenizer'):
        tokenizer = CLIPTokenizer.from_pretrained(base / 'tokenizer', local_files_only=True)
    with readable(base / 'scheduler'):
        scheduler = _Scheduler.from_pretrained(base / 'scheduler', local_files_only=True)
    pipeline = _Pipeline(
        vae=load_model(AutoencoderKL, base / 'vae', dtype),
        text_encoder=load_model(CLIPTextModel, base / 'text_encoder', dtype),
        tokenizer=tokenizer,
        unet=load_model(UNet2DConditionModel, base / 'unet', dtype),
        controlnet=load_model(ControlNetModel, config.controlnet, dtype),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    _check_fit(pipeline, config)
    pipeline.set_progress_bar_config(disable=True)
    if config.attention_slicing:
        pipeline.enable_attention_slicing()
    return pipeline


def _check_fit(pipeline: Any, config: ControlNetGenerator) -> None:
    """See that the networks were made for one another."""
    unet, control = pipeline.unet.config, pipeline.controlnet.config
    for what in ('cross_attention_dim', 'block_out_channels'):
        if tuple(np.atleast_1d(unet[what])) != tuple(np.atleast_1d(control[what])):
            raise MultishiftError(
                f'controlnet: {config.controlnet} has {what} {control[what]}, but '
                f'{config.base / "unet"} {unet[what]}: give a ControlNet of that Stable Diffusion'
            )


def _painted_size(size: tuple[int, ...], short_side: int) -> tuple[int, int]:
    """Return rows and columns to paint: the shorter about ``short_side``, the shape kept."""
    rows, columns = (
        max(1, round(side * short_side / min(size) / _MULTIPLE)) * _MULTIPLE for side in size
    )
    return rows, columns


def _controls(compositions: Sequence[Composition], size: tuple[int, int]) -> Tensor:
    """Return what the ControlNet is told, ``float32 [B,3,h,w]``, 0..1."""
    # Fewer pixels to colour than in the whole composition, and the same result.
    maps = [ade_color_map(_shrunk(composition, size)) for composition in compositions]
    return torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).float() / 255


def _shrunk(composition: Composition, size: tuple[int, int]) -> Composition:
    """Return a composition with all that colours depend on at ``size`` (rows, columns)."""
    scene = composition.scene
    if scene.label_ids is not None:
        scene = scene._replace(label_ids=nearest(scene.label_ids, size))
    labels, mask = nearest(composition.labels, size), nearest(composition.mask, size)
    return composition._replace(scene=scene, labels=labels, mask=mask)


def _as_bytes(images: Tensor) -> Bytes | None:
    """Return images ``[B,3,h,w]`` as ``uint8 [B,h,w,3]``, unless they hold what is no number."""
    if not torch.isfinite(images).all():
        return None
    scaled = (images.float() * 255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()


def _resized(image: Bytes, size: tuple[int, ...]) -> Bytes:
    if image.shape[:2] == size:
        return image
    resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)
