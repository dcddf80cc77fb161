# SPDX-License-Identifier: Apache-2.0
"""Proves the GPU path on this machine's GPU, in less than eight minutes: `make gpu`.

    python test/benchmark/gpu [--out DIR] [--part NAME]...

Needs PyTorch, transformers and NumPy; what else is missing comes from the pack that
`make gpu-pack` collected. Parts run in order of their value, each within a time of its own. One
that fails says so, and the others run. The results are in DIR/gpu.json after every figure, and
DIR/gpu.md is the table for docs/benchmarks.md. Without a GPU, the same runs on the CPU with tiny
sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from machine import ROOT, prepare


def main() -> int:
    """Run the parts; return 0 where all of them are done."""
    done = prepare()
    from proof.runner import NAMES, prove

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=ROOT / 'gpu-report')
    parser.add_argument('--part', action='append', choices=NAMES, help='only these; may repeat')
    parser.add_argument('--cpu', action='store_true', help='on the CPU, though there is a GPU')
    parser.add_argument('--seconds', type=float, default=460, help='time for all parts')
    parser.add_argument('--multishiftseg', type=Path, help='checkout of the published code')
    parser.add_argument('--detectron2', type=Path, help='checkout that its Mask2Former needs')
    return prove(parser.parse_args(), prepared=done)


if __name__ == '__main__':
    sys.exit(main())
