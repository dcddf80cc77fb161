# SPDX-License-Identifier: Apache-2.0
"""Files of a known form: what they may hold, in the words in which faults are told."""
