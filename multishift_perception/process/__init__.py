# SPDX-License-Identifier: Apache-2.0
"""What a process of ours sets up for itself and for those that it starts."""
