"""How well an engine or a checkpoint does on labelled images: `multishift evaluate`.

``descriptions`` reads which data sets; ``runners`` turn an image into labels and scores;
``tally`` counts; ``evaluate`` brings them together; ``report`` writes what came of it.
"""
