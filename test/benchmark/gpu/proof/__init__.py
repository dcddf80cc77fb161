# SPDX-License-Identifier: Apache-2.0
"""The proof of the GPU path, part by part."""
