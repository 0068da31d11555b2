"""The role above several workers: it starts them, keeps them, and answers for all of them."""
