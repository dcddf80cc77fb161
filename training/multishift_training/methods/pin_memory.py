# SPDX-License-Identifier: Apache-2.0
"""Pin the Memory (Kim et al., CVPR 2022): a memory of classes, whatever the domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from multishift_perception.classes import NOVEL, VOID
from multishift_training.datasets import Batch, TrainingData
from multishift_training.datasets.config import Momentum, Positive, Weight
from multishift_training.methods.closed_world import mean_cross_entropy
from multishift_training.methods.episodes import (
    Tested,
    after_step,
    check_domains,
    draw_tested,
    one_image_in_one_line,
    predict,
)
from multishift_training.methods.method import Context, Method, check_is_deeplab
from multishift_training.methods.outliers import check_classifies_pixels

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel


class PinMemory(Method):
    """A memory of what classes look like, whatever the domain, behind the network's pyramid.

    Some domains write it, others read it, in episodes as of ``mldg``.

    Attributes:
        reading: weight of the cross-entropy of what pixels recall.
        divergence: weight of the likeness of different items.
        classification: weight of the cross-entropy of the items' classes.
        momentum: share of itself that an item keeps in a step.
        temperature: of what pixels recall, in its cross-entropy.
        episodes: hold domains back; if not, all write and read, and one domain will do.
        step_size: see ``mldg``.
        second_order: see ``mldg``.
        tested: see ``mldg``.
        class_weights: weight the cross-entropy of classes by their rarity; not in the paper.
    """

    kind: Literal['pin_memory']
    reading: Weight = 0.02
    divergence: Weight = 0.4
    classification: Weight = 0.2
    momentum: Momentum = 0.8
    temperature: Positive = 1.0
    episodes: bool = True
    step_size: Positive = 0.0025
    second_order: bool = False
    tested: Tested = 'any'
    class_weights: bool = False

    def check_data(self, data: TrainingData) -> None:
        """See that there are domains to hold back, where some are."""
        if self.episodes:
            check_domains(data, self.kind)

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that it has a pyramid."""
        check_is_deeplab(model, name, 'pin_memory puts its memory behind the pyramid')
        check_classifies_pixels(model, name, self.kind)

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Give the network its memory."""
        from multishift_training.models.deeplab import DeepLabV3Plus
        from multishift_training.models.pin_memory import add_memory

        assert isinstance(model, DeepLabV3Plus)  # `check_network` saw to it
        add_memory(model)
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module:
        """Return what writes, and the classifier of items."""
        from torch import nn

        from multishift_training.models.pin_memory import Writing

        classes, channels = _memory(model).items.shape
        parts = {'writing': Writing(channels), 'classifier': nn.Linear(channels, classes)}
        return nn.ModuleDict(parts)

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the losses of both parts of an episode, then write the memory.

        A batch of one domain has no meta-testing. The host waits for the device.
        """
        import torch

        tested = self._tested(batch, context)
        labels = batch.labels.masked_fill(tested[:, None, None], VOID)
        shown = batch._replace(labels=labels)
        assert prediction.auxiliary is not None and context.state is not None  # `adapt` saw to it
        feature, memory = prediction.auxiliary['recalled_by'], _memory(context.model)
        kept, items = self._kept(memory), memory.items.clone()
        own = dict(context.state.named_parameters())
        parts = self._reading(prediction, shown, items, context)
        new = self._write(feature, labels, items, kept, own, context)
        parts |= self._of_items(new, own, context)
        if tested.any():
            parts |= self._meta_test(parts, batch, tested, feature, labels, kept, context)
        with torch.no_grad():
            memory.items.copy_(new)
            memory.written.logical_or_((new != items).any(1))
        return parts

    def _tested(self, batch: Batch, context: Context) -> Tensor:
        if self.episodes:
            return draw_tested(batch, context, self.tested)
        import torch

        return torch.zeros_like(batch.domains, dtype=torch.bool)

    def _kept(self, memory: Any) -> Tensor:
        """Return the momentum of each item; one that was never written takes all."""
        momentum: Tensor = self.momentum * memory.written.to(memory.items)
        return momentum

    def _reading(
        self, prediction: Prediction, batch: Batch, items: Tensor, context: Context
    ) -> dict[str, Tensor]:
        """Return the cross-entropies of what is said, and of what is recalled."""
        from torch.nn import functional as F

        from multishift_training.losses.noise_aware import checked_cross_entropy
        from multishift_training.models.layers import upsample
        from multishift_training.models.precision import in_full
        from multishift_training.models.spc import unit

        assert prediction.auxiliary is not None
        query = unit(in_full(prediction.auxiliary['recalled_by']))
        likeness = F.conv2d(query, items.to(query)[:, :, None, None]) / self.temperature
        rows, columns = batch.labels.shape[1:]
        recalled = upsample(likeness, (rows, columns))
        each = context.gather(checked_cross_entropy(recalled, batch.labels, None, context.groups))
        known = (context.gather(batch.labels) < NOVEL).sum().clamp(min=1)
        return {
            'cross_entropy': mean_cross_entropy(prediction, batch, context),
            'reading': self.reading * each.sum() / known,
        }

    def _write(
        self,
        feature: Tensor,
        labels: Tensor,
        items: Tensor,
        kept: Tensor,
        parameters: Mapping[str, Tensor],
        context: Context,
    ) -> Tensor:
        """Return the items as they are after writing, with gradients of what writes."""
        from torch.func import functional_call

        from multishift_training.losses.pin_memory import ClassSums, class_sums, written
        from multishift_training.models.precision import in_full

        assert context.state is not None
        writing: Any = context.state.get_submodule('writing')
        prefix = 'writing.'
        own = {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
        embeddings = functional_call(writing, own, (in_full(feature),))
        sums = class_sums(embeddings, labels, len(items))
        return written(items, ClassSums(*map(context.gather, sums)), kept)

    def _of_items(
        self, items: Tensor, parameters: Mapping[str, Tensor], context: Context
    ) -> dict[str, Tensor]:
        """Return how alike different items are, and the cross-entropy of their classes."""
        import torch
        from torch.nn import functional as F

        from multishift_training.losses.pin_memory import divergence

        said = F.linear(items, parameters['classifier.weight'], parameters['classifier.bias'])
        classes = torch.arange(len(items), device=items.device)
        return {
            'divergence': self.divergence * divergence(items),
            'classification': self.classification * F.cross_entropy(said, classes),
        }

    def _meta_test(
        self,
        parts: dict[str, Tensor],
        batch: Batch,
        tested: Tensor,
        feature: Tensor,
        labels: Tensor,
        kept: Tensor,
        context: Context,
    ) -> dict[str, Tensor]:
        """Return the losses of domains held back, by a memory that the others wrote."""
        import torch

        from multishift_training.models.pin_memory import MEMORY

        assert context.state is not None
        network, state = 'network.', 'state.'
        both = {network + n: p for n, p in context.model.named_parameters()}
        both |= {state + n: p for n, p in context.state.named_parameters()}
        moved = after_step(
            torch.stack(list(parts.values())).sum(),
            both,
            batch,
            context,
            size=self.step_size,
            second_order=self.second_order,
        )
        items = _memory(context.model).items.clone()
        writing = {n.removeprefix(state): p for n, p in moved.items() if n.startswith(state)}
        new = self._write(feature.detach(), labels, items, kept, writing, context)
        reading = {n.removeprefix(network): p for n, p in moved.items() if n.startswith(network)}
        shown = batch.moved(lambda values: values[tested])
        with one_image_in_one_line(self.kind, shown, batch):
            judged = predict(context, reading, shown, {f'{MEMORY}.items': new})
        found = self._reading(judged, shown, new, context)
        return {f'meta_test_{name}': loss for name, loss in found.items()}


def _memory(model: SegmentationModel) -> Any:
    from multishift_training.models.pin_memory import MEMORY

    return model.get_submodule(MEMORY)
