"""What a quantization costs and cost: estimates, progress, measurements, receipt and report."""
