# SPDX-License-Identifier: Apache-2.0
"""The one exception that users are meant to read."""

from __future__ import annotations

import re

# All but tabs and line breaks.
_CONTROL = re.compile(r'[\x00-\x08\x0b-\x1f\x7f-\x9f]')


class MultishiftError(Exception):
    """A fault the user can mend: a line that names the thing at fault and the mend.

    Of a file with several faults each has a line of its own. The command line prints it and exits
    with 1; the node logs it and refuses the transition. Anything else that escapes is a defect of
    ours and keeps its traceback.
    """


def one_line(error: object) -> str:
    """Return what an exception says on one line, as libraries do not always."""
    return ' '.join(str(error).split())


def without_control(text: str) -> str:
    """Return text with control characters escaped: names of files may steer a terminal."""
    return _CONTROL.sub(lambda found: f'\\x{ord(found[0]):02x}', text)


def install_extra(extra: str) -> str:
    """Return the command that installs an extra of this package, which is on no index."""
    return f"`pip install '.[{extra}]'` in the checkout"
