"""Entry point of `multishift`: finds subcommands, and turns users' faults into one line."""

from __future__ import annotations

from collections.abc import Mapping
import importlib
from importlib.metadata import EntryPoint, entry_points
import logging
import sys
from typing import cast

import click

from multishift_perception import __version__
from multishift_perception.errors import MultishiftError, install_extra


class LazyGroup(click.Group):
    """A group that imports a subcommand only when it runs: `--help` must not load torch.

    Subcommands are modules with a click command named ``command``, and what other packages offer
    under an entry point group (``multishift_training`` adds its own that way, so that this
    package never imports it).
    """

    def __init__(
        self, *, modules: Mapping[str, str], help_lines: Mapping[str, str], plugins: str, help: str
    ) -> None:
        """Make a group.

        Args:
            modules: subcommand name to the module that defines it.
            help_lines: one line for every subcommand, those of plugins included.
            plugins: entry point group of further subcommands.
            help: what `--help` says of the group.
        """
        super().__init__(help=help)
        self._modules = modules
        self._help_lines = help_lines
        self._plugins = plugins

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return all subcommand names, in the order of the help lines."""
        return list(self._help_lines)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a subcommand."""
        if added := super().get_command(ctx, cmd_name):
            return added
        if cmd_name in self._modules:
            module = importlib.import_module(self._modules[cmd_name])
            return cast(click.Command, module.command)
        if cmd_name not in self._help_lines:
            return None
        for plugin in entry_points(group=self._plugins, name=cmd_name):
            return _load(plugin)
        raise MultishiftError(
            f'`{cmd_name}` comes from multishift_training, which is not installed: '
            f'run {install_extra("train")}'
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section('Commands'):
            formatter.write_dl(list(self._help_lines.items()))


def _load(plugin: EntryPoint) -> click.Command:
    try:
        return cast(click.Command, plugin.load())
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith('multishift'):
            raise
        raise MultishiftError(
            f'`{plugin.name}` needs {error.name}, which is not installed: '
            f'run {install_extra("train")}'
        ) from error


engine_group = LazyGroup(
    modules={
        'inspect': 'multishift_perception.cli.engine_inspect',
        'verify': 'multishift_perception.cli.engine_verify',
        'bench': 'multishift_perception.cli.engine_bench',
    },
    help_lines={
        'build': 'Build an engine bundle from a checkpoint.',
        'inspect': 'Show what a bundle holds, and what of it runs here.',
        'verify': 'Compare every artifact of a bundle with the eager model.',
        'bench': 'Measure latency, throughput and memory of bundles.',
    },
    plugins='multishift.engine_commands',
    help='Build, inspect, verify and measure engine bundles.',
)

multishift = LazyGroup(
    modules={
        'demo': 'multishift_perception.cli.demo',
        'sample-drive': 'multishift_perception.cli.sample_drive',
        'make-bag': 'multishift_perception.cli.make_bag',
        'replay': 'multishift_perception.cli.replay',
    },
    help_lines={
        'demo': 'Drive the whole ROS graph over a sample drive and report what it saw.',
        'sample-drive': 'Write a synthetic street drive with ground truth as a bag.',
        'make-bag': 'Turn a folder of images into a bag.',
        'replay': 'Run an engine over a bag: metrics, overlays, report.',
        'engine': 'Build, inspect, verify and measure engine bundles.',
        'augment': 'Generate partners of labelled images, with novel objects and new domains.',
        'train': 'Train a network from a configuration file.',
        'evaluate': 'Measure an engine or a checkpoint on labelled images.',
        'import-checkpoint': 'Build an engine bundle of published weights.',
    },
    plugins='multishift.commands',
    help='Segment the road, and detect what does not belong there.',
)
multishift.add_command(engine_group, 'engine')
click.version_option(__version__, prog_name='multishift')(multishift)


def main() -> None:
    """Run the command line; exit code 0 only on success."""
    logging.basicConfig(format='%(message)s', level=logging.INFO)
    try:
        multishift.main(standalone_mode=True)
    except MultishiftError as error:
        print(f'multishift: {error}', file=sys.stderr)
        sys.exit(1)


if __name__ == '__main__':
    main()
