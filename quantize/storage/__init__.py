"""What lies on the disk: the source, the result, and what a job keeps meanwhile. Knows no Hessian."""
