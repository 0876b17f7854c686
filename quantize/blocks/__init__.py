"""One block at a time: read, run on the calibration set, quantized layer by layer, let go."""
