"""Subcommands that `multishift` finds through entry points."""
