# SPDX-License-Identifier: Apache-2.0
"""What makes a picture of a canvas: weather, sky, light and the lens."""
