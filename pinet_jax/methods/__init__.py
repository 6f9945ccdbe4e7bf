"""One folder a method; what methods share lies beside them."""
