# SPDX-License-Identifier: Apache-2.0
"""Images as cameras and data sets have them: messages, files, folders of files, label images."""
