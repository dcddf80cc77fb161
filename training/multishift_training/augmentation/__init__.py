# SPDX-License-Identifier: Apache-2.0
"""CG-Aug: coherent generative augmentation, from label maps to a filtered data set.

A novel object is placed into the label map of a real image (``objects``, ``placement``), a
generator (``controlnet``, ``procedural``, ``pasted_weather``) paints the whole image anew from
that map, filters judge what came of it (``filters``), and a run (``run``, ``folder``) does so for
a data set, whole or not at all for each of its images.

Source: "Generalize or Detect? Towards Robust Semantic Segmentation Under Multiple Distribution
Shifts" (MultiShiftSeg, NeurIPS 2024), section 3.2.
"""
