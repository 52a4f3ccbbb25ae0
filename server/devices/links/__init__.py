"""Links move bytes and know whether they are up. What the bytes mean is not their business."""
