"""The agent's memory: the last N flows as columns."""
