"""The proof of the GPU path, part by part."""
