# SPDX-License-Identifier: Apache-2.0
"""The losses of training: what they compute from predictions and labels."""
