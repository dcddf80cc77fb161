# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a bag, the node and a recorder as processes of one real ROS graph."""
