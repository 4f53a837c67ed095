"""Region similarity J, boundary measure F and the evaluation protocols built from them."""
