# SPDX-License-Identifier: Apache-2.0
"""Names of the ROS message types that this package reads and writes, with ROS and without."""

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
STRING = 'std_msgs/msg/String'
FLOAT32 = 'std_msgs/msg/Float32'
DIAGNOSTIC_ARRAY = 'diagnostic_msgs/msg/DiagnosticArray'
LABEL_INFO = 'vision_msgs/msg/LabelInfo'
DETECTIONS = 'vision_msgs/msg/Detection2DArray'
MARKERS = 'visualization_msgs/msg/MarkerArray'
