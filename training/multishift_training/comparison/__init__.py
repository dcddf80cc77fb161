# SPDX-License-Identifier: Apache-2.0
"""Ways of training x seeds, on the same tests: `multishift compare`.

``config`` says what an experiment is, ``jobs`` what there is to do for it; ``run`` does it,
while ``folder`` keeps others off, and ``measuring`` takes the figures; ``engines`` builds and
times what would drive, ``pictures`` draws what each way sees. ``results`` puts the figures of all
seeds together by ``statistics``; ``table``, ``charts`` and ``report`` show them.
"""
