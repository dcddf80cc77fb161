# SPDX-License-Identifier: Apache-2.0
"""Objects of no known class, each split with kinds of its own."""
