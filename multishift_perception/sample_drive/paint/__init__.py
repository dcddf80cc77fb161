"""What everything is painted with: random draws, geometry, meshes, textures, light, the canvas."""
