# SPDX-License-Identifier: Apache-2.0
"""How well an engine or a checkpoint does on labelled images: `multishift evaluate`.

``descriptions`` reads which data sets; ``tally`` counts what a runner of `inference` says of their
images; ``evaluate`` brings them together; ``report`` writes what came of it.
"""
