"""What the servers and clients of this project share about gRPC: addresses, TLS, limits."""
