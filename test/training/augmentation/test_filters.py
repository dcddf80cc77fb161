# SPDX-License-Identifier: Apache-2.0
"""What judges painted images: thresholds, networks, SAM, GrabCut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
import pytest
import torch
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SamConfig,
    SamImageProcessor,
    SamModel,
    SamProcessor,
)

from multishift_perception.classes import NOVEL, VOID
from multishift_perception.engine import EMBEDDED_BUNDLE, Engine
from multishift_perception.errors import MultishiftError
from multishift_perception.pipeline import Pipeline
from multishift_training import models
from multishift_training.augmentation.config import Detector, Filters
from multishift_training.augmentation.filters import Jury, open_jury
from multishift_training.augmentation.networks import Opinion
from multishift_training.augmentation.parts import Composition, NovelObject, Rejection, Scene
from multishift_training.augmentation.segmenters import GrabCut, Sam
from multishift_training.checkpoints import trained
from multishift_training.loop.config import TrainConfig
from multishift_training.scores import SCORES

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]

pytestmark = pytest.mark.usefixtures('one_thread')


def composition(size: tuple[int, int] = (20, 40)) -> Composition:
    """Return a box of 4 x 10 on a road whose upper half is sky, with a void column."""
    labels = np.zeros(size, np.uint8)
    labels[: size[0] // 2] = 10
    labels[:, 0] = VOID
    mask = np.zeros(size, np.bool_)
    mask[12:16, 5:15] = True
    scene = Scene('a', np.zeros((*size, 3), np.uint8), labels)
    novel = NovelObject('box', 'here', np.ones((4, 10), np.bool_), None, None)
    return Composition(scene, novel, np.where(mask, NOVEL, labels).astype(np.uint8), mask)


class Half:
    """Sees the left half of every object."""

    version = 'half 1'

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact

    def segment(self, image: Bytes, mask: Mask) -> Mask:
        seen = mask.copy()
        seen[:, 10:] = False
        return seen


class Fixed:
    """Says the same of every image, and counts how often it is asked."""

    version = 'fixed 1'

    def __init__(self, labels: Bytes, score: NDArray[np.float32]) -> None:
        self.asked = 0
        self._opinion = Opinion(labels, score)

    def look(self, image: Bytes) -> Opinion:
        self.asked += 1
        return self._opinion


def jury(network: Fixed | None = None, *, exact: bool = True, **filters: Any) -> Jury:
    segmenter = Half(exact=exact) if 'present' in filters else None
    config = Filters.model_validate(filters)
    return Jury(config, segmenter, {} if network is None else {Path('network'): network})


def sam(min_iou: float) -> dict[str, object]:
    return {'kind': 'sam', 'folder': 'sam', 'min_iou': min_iou}


IMAGE = np.zeros((20, 40, 3), np.uint8)


def test_without_filters_all_is_as_placed() -> None:
    mask, figures = jury().judge(composition(), IMAGE)
    assert (mask == composition().mask).all() and figures == {} and jury().versions == {}


def test_the_object_must_be_seen() -> None:
    with pytest.raises(Rejection) as caught:
        jury(present=sam(0.5)).judge(composition(), IMAGE)  # not above it
    assert (caught.value.reason, caught.value.figures) == ('object not seen', {'iou': 0.5})


@pytest.mark.parametrize(('exact', 'pixels'), [(True, 20), (False, 40)])
def test_what_an_exact_segmenter_sees_is_the_label(exact: bool, pixels: int) -> None:
    judges = jury(exact=exact, present=sam(0.49))
    mask, figures = judges.judge(composition(), IMAGE)
    assert mask.sum() == pixels and figures == {'iou': 0.5}
    assert judges.versions == {'present': 'half 1'}


class Noting(Half):
    """Notes what it is shown."""

    def segment(self, image: Bytes, mask: Mask) -> Mask:
        self.shown = image.shape, mask.copy()
        return super().segment(image, mask)


def test_the_object_is_looked_for_in_the_image_as_it_was_painted() -> None:
    segmenter = Noting(exact=True)
    judges = Jury(Filters.model_validate({'present': sam(0.3)}), segmenter, {})
    placed = composition((40, 80))  # at rows 12 to 15, columns 5 to 14
    painted = np.zeros((20, 40, 3), np.uint8)
    mask, figures = judges.judge(placed, np.zeros((40, 80, 3), np.uint8), painted)
    shape, seen = segmenter.shown
    assert shape == (20, 40, 3)
    assert np.argwhere(seen).tolist() == [[r, c] for r in (6, 7) for c in range(2, 7)]
    # At half the size the segmenter's ten columns hold all of the object: the whole is the label.
    assert figures == {'iou': 1.0}
    assert mask.shape == (40, 80)
    assert (mask == np.kron(seen, np.ones((2, 2), np.bool_))).all()


def test_an_object_of_less_than_a_painted_pixel_is_not_seen() -> None:
    placed = composition((40, 80))
    judges = Jury(Filters.model_validate({'present': sam(0.3)}), Half(exact=True), {})
    with pytest.raises(Rejection) as caught:
        judges.judge(placed, np.zeros((40, 80, 3), np.uint8), np.zeros((1, 2, 3), np.uint8))
    assert (caught.value.reason, caught.value.figures) == ('object not seen', {'iou': 0.0})


def test_the_object_must_be_novel_where_it_is_seen() -> None:
    score = np.zeros((20, 40), np.float32)
    score[12:16, 5:10] = 0.8  # the half that is seen
    network = Fixed(composition().scene.labels, score)
    novel = {'network': 'network', 'least': 0.75}
    seen = jury(network, present=sam(0.3), novel=novel)
    assert seen.judge(composition(), IMAGE)[1] == {'iou': 0.5, 'anomaly': 0.8}
    with pytest.raises(Rejection) as caught:
        jury(network, novel=novel).judge(composition(), IMAGE)
    assert (caught.value.reason, caught.value.figures) == ('object not novel', {'anomaly': 0.4})


@pytest.mark.parametrize(('least', 'passes'), [(0.7, True), (0.8, False)])
def test_known_pixels_outside_must_keep_their_labels(least: float, passes: bool) -> None:
    # 780 pixels are known, 740 of them outside; the network is wrong on 185, and in the object.
    labels = np.where(composition().mask, 3, composition().scene.labels).astype(np.uint8)
    known = np.flatnonzero((labels != VOID) & ~composition().mask)
    labels.flat[known[:185]] = 5
    network = Fixed(labels, np.ones((20, 40), np.float32))
    judges = jury(
        network,
        novel={'network': 'network', 'least': 0.5},
        labels_kept={'network': 'network', 'least': least},
    )
    assert judges.versions == {'novel': 'fixed 1', 'labels_kept': 'fixed 1'}
    if passes:
        figures = judges.judge(composition(), IMAGE)[1]
    else:
        with pytest.raises(Rejection) as caught:
            judges.judge(composition(), IMAGE)
        assert caught.value.reason == 'labels not kept'
        figures = caught.value.figures
    assert figures == {'anomaly': 1.0, 'labels_kept': 0.75}
    assert network.asked == 1  # one network for both


def test_engine_bundles_judge_by_their_calibrated_score() -> None:
    judge = {'network': str(EMBEDDED_BUNDLE), 'least': 0.0}
    judges = open_jury(Filters.model_validate({'novel': judge, 'labels_kept': judge}), Path())
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    _, figures = judges.judge(composition(), image)
    assert 0 < figures['anomaly'] <= 1 and 0 <= figures['labels_kept'] <= 1
    assert figures == judges.judge(composition(), image)[1]
    assert judges.versions['novel'].startswith('embedded_engine ')


def test_checkpoints_judge(content: Callable[..., dict[str, object]], tmp_path: Path) -> None:
    config = TrainConfig.model_validate(content())
    torch.manual_seed(0)
    path = tmp_path / 'best.safetensors'
    trained.save(path, models.create(config.model), config, {})
    filters = {'novel': {'network': path.name, 'least': -1e9}}
    judges = open_jury(Filters.model_validate(filters), tmp_path)
    _, figures = judges.judge(composition(), IMAGE)
    assert np.isfinite(figures['anomaly'])
    assert judges.versions['novel'].startswith('best.safetensors ')


@pytest.mark.slow
def test_raw_scores_of_engine_bundles_judge() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    judge = {'network': str(EMBEDDED_BUNDLE), 'score': 'uncertainty', 'least': -1e9}
    raw = open_jury(Filters.model_validate({'novel': judge}), Path())
    with Engine.load(EMBEDDED_BUNDLE) as engine:
        [output] = Pipeline(engine).run([image])
    expected = output.score[composition().mask].mean()
    assert raw.judge(composition(), image)[1]['anomaly'] == pytest.approx(expected, abs=1e-5)


def test_published_mask_networks_judge_by_their_energy_as_published(tmp_path: Path) -> None:
    """As Mask2Anomaly's: no uncertainty head, and what no query claims scores -ln 19."""
    torch.manual_seed(0)
    config = Mask2FormerConfig(  # type: ignore[call-arg]
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        dim_feedforward=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=5,
        num_labels=19,
    )
    stages = ['stage1', 'stage2', 'stage3', 'stage4']
    config.backbone_config = ResNetConfig(  # type: ignore[call-arg]
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=stages
    )
    network = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        network.class_predictor.bias[-1] += 40  # "no object", of all queries
    network.save_pretrained(tmp_path / 'published')
    judge = {'network': 'published', 'model': 'mask2former', 'score': 'energy', 'least': -3.02}
    judges = open_jury(Filters.model_validate({'novel': judge}), tmp_path)
    _, figures = judges.judge(composition((64, 64)), np.zeros((64, 64, 3), np.uint8))
    assert figures == {'anomaly': pytest.approx(-np.log(19), abs=1e-4)}
    assert judges.versions['novel'].startswith('published ')


def test_scores_that_a_network_does_not_have(tmp_path: Path) -> None:
    def opened(**judge: object) -> None:
        open_jury(Filters.model_validate({'novel': {'least': 0, **judge}}), tmp_path)

    with pytest.raises(MultishiftError, match='no energy: set score calibrated, or uncertainty'):
        opened(network=str(EMBEDDED_BUNDLE), score='energy')
    path = tmp_path / 'bt-f-xl.pth'
    path.touch()
    with pytest.raises(MultishiftError, match=r'pth is a checkpoint.*set score uncertainty'):
        opened(network=path.name, model='mask2former_resnet50', score='calibrated')
    with pytest.raises(MultishiftError, match=r'name its network with model'):
        opened(network=path.name)
    with pytest.raises(ValidationError, match='mask2anomaly is no network'):
        opened(network=path.name, model='mask2anomaly')
    both = {'network': path.name, 'least': 0}
    with pytest.raises(ValidationError, match='give both the same model'):
        Filters.model_validate({'novel': {**both, 'model': 'segformer_b0'}, 'labels_kept': both})


def test_all_scores_without_a_fit_can_be_named() -> None:
    for name, score in SCORES.items():
        judge = {'network': 'a', 'least': 0, 'score': name}
        if score.needs_only_prediction:
            assert Detector.model_validate(judge).score == name
        else:
            with pytest.raises(ValidationError, match=f'{name} is no score of a detector'):
                Detector.model_validate(judge)


def test_networks_that_are_not_there() -> None:
    with pytest.raises(MultishiftError, match='no_network does not exist'):
        open_jury(
            Filters.model_validate({'novel': {'network': 'no_network', 'least': 0.5}}), Path()
        )


@pytest.fixture(scope='module')
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SAM with random weights, as a local folder."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('sam')
    config = SamConfig(
        vision_config={
            'hidden_size': 16,
            'output_channels': 8,
            'num_hidden_layers': 2,
            'num_attention_heads': 2,
            'image_size': 64,
            'patch_size': 8,
            'mlp_dim': 32,
            'global_attn_indexes': [1],
            'window_size': 4,
            'num_pos_feats': 4,
        },
        prompt_encoder_config={
            'hidden_size': 8,
            'image_size': 64,
            'patch_size': 8,
            'image_embedding_size': 8,
            'mask_input_channels': 4,
        },
        mask_decoder_config={
            'hidden_size': 8,
            'num_attention_heads': 2,
            'mlp_dim': 16,
            'iou_head_hidden_dim': 8,
            'num_hidden_layers': 2,
            'attention_downsample_rate': 2,
        },
    )
    SamModel(config).save_pretrained(folder)
    size = {'longest_edge': 64}
    processor = SamImageProcessor(
        size=size,
        mask_size={'longest_edge': 16},
        pad_size={'height': 64, 'width': 64},
        mask_pad_size={'height': 16, 'width': 16},
    )
    SamProcessor(processor).save_pretrained(folder)
    return folder


def test_sam_sees_a_mask_of_the_image_at_its_box(sam_folder: Path) -> None:
    segmenter = Sam(sam_folder)
    assert segmenter.exact and segmenter.version.startswith('SAM ')
    image = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)
    first, second = np.zeros((2, 40, 72), np.bool_)
    first[10:30, 5:25] = True
    second[2:38, 40:70] = True
    seen = segmenter.segment(image, first)
    assert seen.shape == (40, 72) and seen.dtype == np.bool_
    assert (seen == segmenter.segment(image, first)).all()
    # The box alone counts, and it does count.
    first[15:20, 8:12] = False
    assert (seen == segmenter.segment(image, first)).all()
    assert (seen != segmenter.segment(image, second)).any()


def test_sam_without_its_files(sam_folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'config.json').write_bytes((sam_folder / 'config.json').read_bytes())
    with pytest.raises(MultishiftError, match=r'model\.safetensors, preprocessor_config\.json'):
        Sam(tmp_path)
    for name in ('model.safetensors', 'processor_config.json'):
        (tmp_path / name).write_bytes((sam_folder / name).read_bytes()[:200])
    with pytest.raises(MultishiftError, match='is no SAM') as caught:
        Sam(tmp_path)
    assert '\n' not in str(caught.value)


def street(size: tuple[int, int] = (180, 320)) -> Bytes:
    """Return a road with texture and light that falls off."""
    noise = np.random.default_rng(0).normal(0, 6, (*size, 1))
    light = np.linspace(70, 110, size[1])[None, :, None]
    return np.clip(light + noise + np.array([0, 3, 6]), 0, 255).astype(np.uint8)


def disc(center: tuple[int, int], radius: int, size: tuple[int, int] = (180, 320)) -> Mask:
    drawn = np.zeros(size, np.uint8)
    cv2.circle(drawn, center, radius, 1, -1)
    return drawn.astype(np.bool_)


@pytest.mark.parametrize('center', [(160, 90), (2, 150), (318, 178)])
def test_grabcut_sees_objects(center: tuple[int, int]) -> None:
    image, mask = street(), disc(center, 25)
    image[mask] = np.clip(image[mask] * 0.6 + np.array([90, 20, 0]), 0, 255)
    seen = GrabCut().segment(image, mask)
    assert (seen & mask).sum() / (seen | mask).sum() > 0.9
    assert (seen == GrabCut().segment(image, mask)).all()


def test_grabcut_sees_none_where_there_is_none() -> None:
    mask = disc((160, 90), 25)
    seen = GrabCut().segment(street(), mask)
    assert (seen & mask).sum() / (seen | mask).sum() < 0.5


def test_grabcut_needs_surroundings() -> None:
    everywhere = np.ones((180, 320), np.bool_)
    assert not GrabCut().segment(street(), everywhere).any()
