# SPDX-License-Identifier: Apache-2.0
"""Libraries that not every machine needs."""

from __future__ import annotations

from collections.abc import Sequence
import importlib
from typing import Any

from multishift_perception.errors import MultishiftError, one_line


def require(module: str, *, packages: Sequence[str], purpose: str) -> Any:
    """Import a library and return it.

    Args:
        module: what to import.
        packages: all that ``pip`` should install for the purpose.
        purpose: what needs it, in words.

    Raises:
        MultishiftError: it is missing or does not load; with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that it loads
        reason = one_line(error)
        raise MultishiftError(
            f'{purpose} needs {module} ({reason}): pip install {" ".join(packages)}'
        ) from None
