"""A budget of bytes: what each part of the model loses by four bits, and which parts get eight."""
