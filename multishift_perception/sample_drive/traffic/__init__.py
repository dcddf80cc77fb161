# SPDX-License-Identifier: Apache-2.0
"""What stands and moves in a street: its items, vehicles, people, and how each is drawn."""
