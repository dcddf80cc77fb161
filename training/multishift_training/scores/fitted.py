# SPDX-License-Identifier: Apache-2.0
"""What scores that are fitted on labelled images have in common."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Protocol, Self

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from multishift_perception.errors import MultishiftError
from multishift_perception.files import write_bytes
from multishift_training.models import Prediction


def check_finite(values: Tensor) -> None:
    """See that what was gathered of features is finite.

    Raises:
        MultishiftError: if not.
    """
    if not values.isfinite().all():
        raise MultishiftError('features are not finite: the weights are broken: give others')


def enlarged(values: Tensor, prediction: Prediction) -> Tensor:
    """Return values ``[B,h,w]`` of the feature's pixels at the size of the logits, bilinear."""
    size = prediction.logits.shape[2:]
    return F.interpolate(values[:, None], size, mode='bilinear', align_corners=False)[:, 0]


class Fitting(Protocol):
    """Gathers what a score is fitted on, batch by batch."""

    def update(self, prediction: Prediction, labels: Tensor) -> None:
        """Add a batch; ``labels`` are integers 0..255 ``[B,H,W]``, on the prediction's device."""

    def result(self) -> FittedScore:
        """Return the fitted score.

        Raises:
            MultishiftError: what was added does not suffice.
        """


class FittedScore(nn.Module):
    """A score after fitting; its buffers become part of exported graphs.

    Attributes:
        statistics: what its constructor takes, by parameter.
    """

    statistics: dict[str, Tensor]

    @classmethod
    @abstractmethod
    def fitting(cls) -> Fitting:
        """Begin to fit one."""

    @abstractmethod
    def forward(self, prediction: Prediction) -> Tensor:
        """Return the score ``float32 [B,H,W]``, at the size of the logits."""

    @staticmethod
    @abstractmethod
    def fault(statistics: dict[str, Tensor]) -> str | None:
        """Return what is wrong with the tensors of a file, if anything."""

    def check_channels(self, prediction: Prediction, fitted: int) -> None:
        """See that features have as many channels as those that it was fitted on.

        Raises:
            MultishiftError: if not.
        """
        if prediction.feature.shape[1] != fitted:
            raise MultishiftError(
                f'the {type(self).__name__} statistics are of {fitted} feature channels, the '
                f'network has {prediction.feature.shape[1]}: fit them with this network'
            )

    def save(self, path: Path) -> None:
        """Write the statistics as safetensors, atomically."""
        write_bytes(path, save(self.statistics))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            MultishiftError: the file is missing, broken, or holds something else.
        """
        try:
            found = load_file(path)
        except FileNotFoundError:
            raise MultishiftError(
                f'{path} does not exist: give the file of fitted {cls.__name__} statistics'
            ) from None
        except (SafetensorError, OSError) as error:
            raise MultishiftError(
                f'{path} is no whole safetensors file ({error}): copy it again'
            ) from None
        if fault := cls.fault(found):
            raise MultishiftError(
                f'{path} holds no {cls.__name__} statistics ({fault}): fit them again'
            )
        return cls(**found)
