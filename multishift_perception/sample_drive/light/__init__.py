"""What makes a picture of a canvas: weather, sky, light and the lens."""
