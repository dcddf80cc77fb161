# SPDX-License-Identifier: Apache-2.0
"""What a street is and what lines it: layout, ground, houses, borders, trees, furniture."""
