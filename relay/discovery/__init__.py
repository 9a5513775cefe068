"""Discovery: who the agents are, and where."""
