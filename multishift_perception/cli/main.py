# SPDX-License-Identifier: Apache-2.0
"""Entry point of `multishift`: finds subcommands, and turns users' faults into one line."""

from __future__ import annotations

from collections.abc import Mapping
import difflib
import importlib
from importlib.metadata import EntryPoint, entry_points
import io
import logging
import signal
import sys
import threading
from types import MappingProxyType
from typing import Any, NoReturn, cast

import click
from click.shell_completion import CompletionItem

from multishift_perception import __version__
from multishift_perception.cli.verbosity import (
    set_up_logging,
    tell_origin,
    verbosity_options,
)
from multishift_perception.disk import full_disk, is_full_disk
from multishift_perception.errors import MultishiftError, install_extra, without_control
from multishift_perception.process.signals import ended_by_signals, signal_of
from multishift_perception.process.threads import wait_asleep
from multishift_perception.progress import close_bars

_NAMES = {signal.SIGINT: 'Ctrl-C'}
_ANEW = 'nothing is half-written, and it begins anew when it is started again'
# Those of the subcommands too.
_SETTINGS = {'help_option_names': ['-h', '--help'], 'show_default': True}


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it runs: `--help` must not load torch.

    Subcommands are modules with a click command named ``command``, and what other packages offer
    under an entry point group (``multishift_training`` adds its own that way, so that this
    package never imports it).
    """

    def __init__(
        self,
        *,
        modules: Mapping[str, str],
        help_lines: Mapping[str, str],
        plugins: str,
        help: str,
        resuming: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make a group.

        Args:
            modules: subcommand name to the module that defines it.
            help_lines: one line for every subcommand, those of plugins included.
            plugins: entry point group of further subcommands.
            help: what `--help` says of the group.
            resuming: how the subcommands go on that do so when they are started again.
        """
        super().__init__(help=help, params=verbosity_options(), context_settings=_SETTINGS)
        self._modules = modules
        self._help_lines = help_lines
        self._plugins = plugins
        self._resuming = resuming

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all subcommand names, in the order of the help lines."""
        return list(self._help_lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand."""
        if added := super().get_command(ctx, cmd_name):
            return added
        if cmd_name in self._modules:
            module = importlib.import_module(self._modules[cmd_name])
            return _with_verbosity(module.command)
        if cmd_name not in self._help_lines:
            return None
        for plugin in entry_points(group=self._plugins, name=cmd_name):
            return _with_verbosity(_load(plugin))
        raise MultishiftError(
            f'`{cmd_name}` comes from multishift_training, which is not installed: '
            f'run {install_extra("train")}'
        )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Import the subcommand; say first which it is, as that takes seconds for some."""
        ctx.invoked_subcommand = name = args[0]
        if name not in self._help_lines and not name.startswith('-'):
            near = difflib.get_close_matches(name, self._help_lines)
            hint = f' Did you mean {" or ".join(map(repr, near))}?' if near else ''
            raise click.UsageError(f'No such command {name!r}.{hint}', ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; say whether it goes on after Ctrl-C or a signal to end."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            number = signal_of(stop)
            name = ctx.invoked_subcommand or ''
            close_bars()
            click.echo(
                f'multishift: {name} was stopped by {_NAMES.get(number, number.name)}: '
                f'{self._resuming.get(name, _ANEW)}',
                err=True,
            )
            ctx.exit(128 + number)
        except click.NoSuchOption as error:
            from multishift_perception.cli.options import without_older_names

            names = without_older_names(error)
            raise click.NoSuchOption(error.option_name, None, names, error.ctx) from None
        except ModuleNotFoundError as error:  # commands import what takes long when they run
            name = ctx.invoked_subcommand or ''
            if name in self._modules or name in self.commands:
                raise
            raise _missing(name, error) from error
        except MultishiftError as error:
            if ctx.parent is None:
                tell_origin(ctx, error)
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what may stand for a word that is begun, without importing the subcommands."""
        names = [
            CompletionItem(name, help=line)
            for name, line in self._help_lines.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section('Commands'):
            formatter.write_dl(list(self._help_lines.items()))


def _with_verbosity(command: click.Command) -> click.Command:
    known = {param.name for param in command.params}
    command.params += [option for option in verbosity_options() if option.name not in known]
    return command


def _load(plugin: EntryPoint) -> click.Command:
    try:
        return cast(click.Command, plugin.load())
    except ModuleNotFoundError as error:
        raise _missing(plugin.name, error) from error


def _missing(command: str, error: ModuleNotFoundError) -> Exception:
    """Return what to say of a library that a training command lacks; a fault of ours as it is."""
    if error.name and error.name.startswith('multishift'):
        return error
    return MultishiftError(
        f'`{command}` needs {error.name}, which is not installed: run {install_extra("train")}'
    )


engine_group = LazyGroup(
    modules={
        'inspect': 'multishift_perception.cli.engine_inspect',
        'verify': 'multishift_perception.cli.engine_verify',
        'bench': 'multishift_perception.cli.engine_bench',
        'calibrate': 'multishift_perception.cli.engine_calibrate',
    },
    help_lines={
        'build': 'Build an engine bundle from a checkpoint.',
        'checkpoint': 'Write the network of a bundle as a checkpoint, to train on from.',
        'inspect': 'Show what a bundle holds, and what of it runs here.',
        'verify': 'Compare every artifact of a bundle with the eager model.',
        'bench': 'Measure latency, throughput and memory of bundles.',
        'calibrate': "Set a bundle's operating point by footage of your own camera.",
    },
    plugins='multishift.engine_commands',
    help='Build, inspect, verify, measure and calibrate engine bundles.',
)

multishift = LazyGroup(
    modules={
        'demo': 'multishift_perception.cli.demo',
        'sample-drive': 'multishift_perception.cli.sample_drive',
        'make-bag': 'multishift_perception.cli.make_bag',
        'replay': 'multishift_perception.cli.replay',
        'predict': 'multishift_perception.cli.predict',
        'view': 'multishift_perception.cli.view',
    },
    help_lines={
        'demo': 'Drive the whole ROS graph over a sample drive and report what it saw.',
        'sample-drive': 'Write a synthetic street drive with ground truth as a bag.',
        'make-bag': 'Turn a folder of images into a bag.',
        'predict': 'See what an engine says of images, videos, cameras, streams or bags.',
        'view': 'Show in a browser what an engine, or a running node, says of cameras.',
        'replay': 'Run an engine over bags: metrics, overlays, report.',
        'engine': 'Build, inspect, verify, measure and calibrate engine bundles.',
        'augment': 'Generate partners of labelled images, with novel objects and new domains.',
        'train': 'Train a network from a configuration file.',
        'evaluate': 'Measure an engine or a checkpoint on labelled images.',
        'compare': 'Compare ways of training over seeds, on the same tests.',
        'import-checkpoint': 'Build an engine bundle of published weights.',
        'models': 'List the networks: size, published weights, licences.',
        'datasets': 'List the data sets: what each needs on disk, classes, licences.',
    },
    plugins='multishift.commands',
    help='Segment the road, and detect what does not belong there.',
    resuming={
        'augment': 'start it again, and it goes on after the last image that is whole',
        'compare': 'start it again, and it goes on after the last step that it saved',
        'evaluate': 'start it again, and it goes on after the last images that it saved',
        'predict': 'what it wrote is whole; start it again, with --force if it had begun to write',
        'replay': 'start it again: of several bags, it goes on after the last that is done',
        'train': 'start it again, and it goes on after the last step that it saved',
    },
)
multishift.add_command(engine_group, 'engine')
click.version_option(__version__, prog_name='multishift')(multishift)


def main() -> None:
    """Run the command line; exit code 0 only on success."""
    # Names of files may hold bytes that are no text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')
    set_up_logging()
    wait_asleep()
    threading.excepthook = _tell_of_thread
    try:
        with ended_by_signals():
            code = multishift.main(standalone_mode=False)
    except MultishiftError as error:
        _end(f'multishift: {error}', 1)
    except (OSError, RuntimeError) as error:  # of what nobody thinks of as an output
        if not is_full_disk(error):
            raise
        _end(f'multishift: {full_disk(getattr(error, "filename", None) or "a file")}', 1)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # before the command began
        code = 128 + signal.SIGINT
    # From here on there is nothing to clean up, and nothing to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    logging.disable()
    sys.exit(code)


def _tell_of_thread(ended: threading.ExceptHookArgs) -> None:
    # That of a full disk comes back when the thread that writes is asked what became of it.
    if not is_full_disk(ended.exc_value):
        threading.__excepthook__(ended)


def _end(line: str, code: int) -> NoReturn:
    close_bars()
    print(without_control(line), file=sys.stderr)
    sys.exit(code)


if __name__ == '__main__':
    main()
