# SPDX-License-Identifier: Apache-2.0
"""Parameters and operations of every network: the table in docs/models.md.

    python test/benchmark/model_sizes.py

Nothing is computed, so that it takes seconds on any machine. One multiply-add is
two operations; convolutions, matrix products and attention count, point-wise work does not.
"""

from __future__ import annotations

import torch
from torch._subclasses import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from multishift_training import models

SIZE = (1024, 2048)


def main() -> None:
    """Print a Markdown table."""
    print(f'| name | parameters | GFLOPs at {SIZE[0]}x{SIZE[1]} |\n|---|---|---|')
    for name in models.NAMES:
        if name == models.FROM_FOLDER:
            continue
        model = models.create(name).eval()
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        model.requires_grad_(False)
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with fake, FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, *SIZE))
        print(f'| `{name}` | {parameters / 1e6:.1f} M | {counter.get_total_flops() / 1e9:,.0f} |')


if __name__ == '__main__':
    main()
