# SPDX-License-Identifier: Apache-2.0
"""Makes the networks that ``multishift_perception`` runs: data, models, training, export."""

# Before any module of this package imports what that keeps offline.
import multishift_perception  # noqa: F401
