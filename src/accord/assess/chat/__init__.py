"""`accord chat`: a conversation with a finished model, and with its reference beside it."""
