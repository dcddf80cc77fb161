"""The losses of training: what they compute from predictions and labels."""
