# SPDX-License-Identifier: Apache-2.0
"""What everything is painted with: random draws, geometry, meshes, textures, light, the canvas."""
