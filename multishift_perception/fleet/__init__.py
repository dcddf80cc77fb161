# SPDX-License-Identifier: Apache-2.0
"""Replay as evaluation: many bags, shared out, resumed, summed up and compared."""
