"""Who may see which flows: asked of Kubernetes."""
