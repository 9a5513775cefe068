"""The relay: all agents as one Observer."""
