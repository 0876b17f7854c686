"""How good a model is: measured against another form of itself, and against questions with known answers."""
