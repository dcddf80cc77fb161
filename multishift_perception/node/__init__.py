# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 node: wiring only; what it does to frames lives in ROS-free modules."""
