"""The Observer API: the store's flows for whoever asks."""
