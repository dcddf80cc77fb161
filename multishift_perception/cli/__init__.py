# SPDX-License-Identifier: Apache-2.0
"""The command `multishift`: one module per subcommand, each with a click command `command`."""

from __future__ import annotations

import signal


def run() -> None:
    """Run the command line; while it is loaded, Ctrl-C ends it without a word."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from multishift_perception.cli.main import main

    signal.signal(signal.SIGINT, handler)
    main()
