"""Networks. Model code imports no data code: tensors in, tensors out."""
