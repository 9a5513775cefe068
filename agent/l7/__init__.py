"""What was asked and answered: payloads of the ring to requests with their answers."""
