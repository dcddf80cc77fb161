# SPDX-License-Identifier: Apache-2.0
"""Running a network, or an engine, on images.

``runners`` take single images of any size to labels and scores of that size; ``batches`` run a
network over batches of labelled frames, and ``fitting`` fits scores on such.
"""
