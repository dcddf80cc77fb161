# SPDX-License-Identifier: Apache-2.0
"""What commands leave for people to read: pages, charts, pictures and tables."""
