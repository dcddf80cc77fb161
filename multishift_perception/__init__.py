# SPDX-License-Identifier: Apache-2.0
"""Segments the road in every look it takes, and detects unknown objects on it.

This package is what runs on the vehicle and over bags; what makes its networks is
``multishift_training``.
"""

from multishift_perception.offline import stay_offline

__version__ = '0.1.0'

stay_offline()
