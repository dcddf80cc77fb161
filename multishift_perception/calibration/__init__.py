# SPDX-License-Identifier: Apache-2.0
"""Sets the operating point of an engine bundle by ordinary footage, without labels."""
