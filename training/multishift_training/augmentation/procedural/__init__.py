# SPDX-License-Identifier: Apache-2.0
"""The embedded generator: renders a label map to a street of varied look, without weights.

A sample's domain (``domain``: time, weather, place) is drawn first. Surfaces (``surfaces``,
``facades``, ``sky``), things (``things``) and the novel object (``novel``) are painted as they
would look in even light; a share of the scene's own picture is kept (``detail``). Then all of it
goes through the same light (``light``), air (``air``) and camera (``camera``): nothing but its
looks tells the novel object from the rest.
"""

from multishift_training.augmentation.procedural.generator import Procedural

__all__ = ['Procedural']
