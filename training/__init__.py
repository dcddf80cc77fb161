"""Makes the networks that ``multishift_perception`` runs: data, models, training, export."""
