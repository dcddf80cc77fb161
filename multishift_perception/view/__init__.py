# SPDX-License-Identifier: Apache-2.0
"""A page that shows what an engine, or a running node, says of cameras at this moment."""
