# SPDX-License-Identifier: Apache-2.0
"""Subcommands that `multishift` finds through entry points."""
