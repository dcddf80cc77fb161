# SPDX-License-Identifier: Apache-2.0
"""Runs a module that ends when the process that started it does, in whatever way.

python -m multishift_perception.demo.attached PARENT MODULE [ARGUMENT ...]
"""

from __future__ import annotations

import runpy
import sys

from multishift_perception.process.signals import end_with_parent


def main() -> None:
    """Run it in place of this module."""
    parent, module = sys.argv[1:3]
    end_with_parent(int(parent))
    del sys.argv[1:3]
    runpy.run_module(module, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
    main()
