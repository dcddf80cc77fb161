# SPDX-License-Identifier: Apache-2.0
"""The targets by name: what a bundle can be built for.

Each is a module that is imported when it is built: a machine needs only the libraries of what it
builds. See `TargetModule`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from multishift_perception.engine.backends import BACKENDS
from multishift_perception.errors import MultishiftError
from multishift_perception.registry import Registry
from multishift_training.export.onnx_kind import check_onnx
from multishift_training.export.plan import EIGHT_BITS, Plan, Precision

if TYPE_CHECKING:
    from multishift_training.export.network import Network
    from multishift_training.export.written import Written


@dataclass(frozen=True)
class TargetEntry:
    """What is known of a target before its module is imported.

    Attributes:
        module: name of the module, see `TargetModule`.
        precisions: those that it takes; in float32 it computes where it lacks ``fp16`` and another
            is asked for.
        ahead_of_time: whether it builds for the compute capabilities that are named.
        packages: what builds it, beside torch: their versions go into the manifest.
    """

    module: str
    precisions: tuple[Precision, ...] = ()
    ahead_of_time: bool = False
    packages: tuple[str, ...] = ()


class TargetModule(Protocol):
    """What the module of a target has."""

    def check(self, plan: Plan) -> None:
        """Raise MultishiftError where this machine cannot build it, before any work is done."""

    def write(self, network: Network, plan: Plan, folder: Path) -> Iterator[Written]:
        """Write its artifacts into a folder.

        Args:
            network: what to write.
            plan: what was asked for; `check` has passed.
            folder: the bundle's, which other targets write to as well.

        Raises:
            MultishiftError: its library cannot build the network.
        """


def register(name: str, entry: TargetEntry) -> None:
    """Let bundles be built for a target from now on.

    Raises:
        TypeError: its name is taken, or the entry is none.
    """
    if not isinstance(entry, TargetEntry):
        raise TypeError(f'target {name} is {entry!r}, no TargetEntry')
    TARGETS.add(name, entry)


# In the order in which a bundle's artifacts are written.
TARGETS: Registry[TargetEntry] = Registry('target', 'multishift.targets', register)
register(
    'openvino',
    TargetEntry(f'{__package__}.openvino', precisions=('int8',), packages=('openvino', 'nncf')),
)
register('torch', TargetEntry(f'{__package__}.torch'))
register(
    'tensorrt',
    TargetEntry(
        f'{__package__}.tensorrt',
        precisions=('fp16', 'bf16', 'fp32', 'int8', 'fp8'),
        packages=('torch_tensorrt',),
    ),
)
register(
    'tensorrt-rtx',
    TargetEntry(
        f'{__package__}.tensorrt_rtx',
        precisions=('fp16', 'bf16', 'fp32', 'fp8'),
        ahead_of_time=True,
        packages=('onnx', 'onnxscript', 'tensorrt-rtx-cu13'),
    ),
)


def chosen(plan: Plan) -> list[str]:
    """Return the names of a plan's targets, each once, in the order of `TARGETS`."""
    return [name for name in TARGETS if name in plan.targets]


def target_module(name: str) -> TargetModule:
    """Import the module of a target."""
    return cast(TargetModule, importlib.import_module(TARGETS[name].module))


def check_plan(plan: Plan) -> None:
    """See that this machine can build what a plan says, before any work is done.

    Raises:
        MultishiftError: a target is unknown or cannot be built here, or does not go with what
            else is asked for; or a package offers what does not load.
    """
    BACKENDS.load()  # the manifest asks for them, and that is written last
    for name in plan.targets:
        if name not in TARGETS:
            raise MultishiftError(f'unknown target {name!r}: choose from {", ".join(TARGETS)}')
    names = chosen(plan)
    if any(TARGETS[name].ahead_of_time for name in names) != bool(plan.capabilities):
        raise MultishiftError(
            '--target tensorrt-rtx and --compute-capability go together: name the GPU of the '
            'vehicle, for example --target tensorrt-rtx --compute-capability 8.9'
        )
    if odd := [n for n in plan.ascending if n % plan.least]:
        raise MultishiftError(
            f'--batch {odd[0]} is no multiple of the least, {plan.least}: add --batch 1, or build '
            'a bundle for each'
        )
    if plan.precision in (*EIGHT_BITS, 'bf16'):
        _check_precision(plan)
    for name in names:
        target_module(name).check(plan)
    if plan.onnx is not None:
        check_onnx()


def _check_precision(plan: Plan) -> None:
    """See that something that is built takes it, and that nothing does that takes 16 bits alone.

    Others compute in float32 where they cannot, which `Plan.precision` says.
    """
    able = [name for name, entry in TARGETS.items() if plan.precision in entry.precisions]
    unable = [n for n, e in TARGETS.items() if 'fp16' in e.precisions and n not in able]
    asked = chosen(plan)
    refused = [name for name in asked if name in unable]
    if refused or not set(asked) & set(able):
        mend = (
            f'build a bundle of its own for {", ".join(refused)}, with --precision fp16'
            if refused
            else f'give --target {able[0]} too'
        )
        raise MultishiftError(
            f'--precision {plan.precision} is for --target {" or ".join(able)}, not '
            f'{", ".join(asked)}: {mend}'
        )
