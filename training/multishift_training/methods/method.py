# SPDX-License-Identifier: Apache-2.0
"""What a training method is asked, by the loop and by whoever reads what was trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from multishift_perception.errors import MultishiftError
from multishift_training.datasets import Batch, Sample, Strict, TrainingData

if TYPE_CHECKING:
    from torch import Tensor, nn

    from multishift_training.models import Prediction, SegmentationModel

# Joins a tensor [B,...] of every process to that of the whole batch, with gradients.
Gather = Callable[['Tensor'], 'Tensor']


class Context(NamedTuple):
    """What losses may need beside a prediction and its batch.

    Attributes:
        model: the network as `Method.adapt` left it. What losses change of it are buffers.
        state: what `Method.make_state` made.
        class_weights: what `Method.weights_of_classes` gave.
        groups: classes that the labels ``C..C+G-1`` stand for, ``bool [G,C]``; None where every
            label is of one class.
        gather: brings what all processes found together, so that losses are those of one process
            with the whole batch. Buffers that move by what it brought are the same in all.
        autocast: a context of the run's precision: what runs the network again does so in it.
            Losses are outside, in 32 bits, of which what comes out of it may have but 16.
    """

    model: SegmentationModel
    state: nn.Module | None
    class_weights: Tensor | None
    groups: Tensor | None
    gather: Gather
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext


class Selection(NamedTuple):
    """Whose labels a method trusts in some images.

    Attributes:
        images: RGB ``uint8 [B,H,W,3]``.
        labels: ``uint8 [B,H,W]``.
        trusted: ``bool [B,H,W]``.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    trusted: NDArray[np.bool_]


class Method(Strict):
    """A training method: its fields are its configuration, its methods what it does.

    It has a ``kind`` of its own, a ``Literal`` of the word that names it, and ``losses``; the
    rest as it needs. Its module imports torch inside functions: configurations are read without.
    Stages of one run whose methods are of one kind share what `adapt` and `make_state` made.
    """

    kind: str

    @classmethod
    def lasts(cls) -> bool:
        """Return whether it makes something that stages of one run share."""
        return cls.adapt is not Method.adapt or cls.make_state is not Method.make_state

    @property
    def takes_masks(self) -> bool:
        """Whether its losses take queries and masks of a mask network, at every pixel."""
        return False

    @property
    def others(self) -> int:
        """How many other images of its domain each sample brings along, for `views`."""
        return 0

    @property
    def evaluates_frozen(self) -> bool:
        """Whether parts of the network that do not learn run as in evaluation, dropout too."""
        return False

    def check_data(self, data: TrainingData) -> None:
        """See that the training data are what it learns from.

        Raises:
            MultishiftError: if not; the message names the key to mend.
        """

    def check_network(self, model: SegmentationModel, name: str) -> None:
        """See that a network is one that it can train; before `adapt`.

        Args:
            model: the network.
            name: of ``models.NAMES``.

        Raises:
            MultishiftError: if not; the message names the key to mend.
        """

    def views(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the members that it learns from, all of one size; as read by default.

        Args:
            sample: what the data's transforms gave. To see that losses reach what learns, the
                loop gives small images too.
            rng: all that may be drawn from, so that runs resume exactly.
        """
        return sample

    def adapt(self, model: SegmentationModel) -> SegmentationModel:
        """Return the network with what it adds for good, best in place so that names stay.

        What is added is part of checkpoints and of what is exported, and is adapted again
        wherever those are read. The methods of a run adapt its network once for each kind, in the
        order of the stages; all stages of a kind are configured alike. Weights that a run starts
        from are loaded before: those of an adapted network after what adapted that one, which
        the run need not list again.
        """
        return model

    def make_state(self, model: SegmentationModel) -> nn.Module | None:
        """Return the modules, parameters and buffers that only training needs.

        They are saved and resumed, move with the stage's optimiser, all of them, and are passed
        on to later stages of the same kind; they are no part of checkpoints or exports.

        Args:
            model: the network after `adapt`.
        """
        return None

    @property
    def learning_rate_factors(self) -> Mapping[str, float]:
        """Factors of the learning rate by prefix, as of ``decoder`` or ``state.reconstruction``.

        A parameter's are multiplied. Prefixes name whole parts of the network, or of the state
        below ``state``.
        """
        return {}

    def weights_of_classes(
        self, model: SegmentationModel, rarity: Callable[[], Tensor]
    ) -> Tensor | None:
        """Return what the losses weight classes by; None where it is nothing.

        By default, rarity where the method has a key ``class_weights`` that is true.

        Args:
            model: the network.
            rarity: reads the labels, and returns weights by rarity ``float32 [C]``, or ``[C+G]``
                where labels stand for G groups of classes too.
        """
        return rarity() if getattr(self, 'class_weights', False) else None

    def losses(self, prediction: Prediction, batch: Batch, context: Context) -> dict[str, Tensor]:
        """Return the weighted losses by name, scalars; their sum is what training makes small.

        They are called once for each batch, and out of mixed precision.

        Args:
            prediction: of this process's share of the batch.
            batch: that share; labels are ``int64``, at the prediction's rows and columns.
            context: see there.
        """
        raise NotImplementedError

    def selection(
        self, model: SegmentationModel, samples: Iterable[Sample], groups: Tensor | None
    ) -> Selection | None:
        """Return whose labels it trusts in a few samples; None where that is all, or no use.

        Args:
            model: the network.
            samples: with its views; read when they are iterated.
            groups: as of `Context`.
        """
        return None


def check_is_deeplab(model: SegmentationModel, name: str, place: str) -> None:
    """See that a network is a DeepLab, with a pyramid and a backbone that has taps.

    Args:
        model: the network.
        name: its name, for the message.
        place: which method does what in which part of it, for the message.

    Raises:
        MultishiftError: it is none.
    """
    from multishift_training.models.deeplab import DeepLabV3Plus

    if not isinstance(model, DeepLabV3Plus):
        raise MultishiftError(
            f'method {place} of a DeepLab, which {name} lacks: choose a deeplabv3plus network'
        )
