"""The stand-in Kubernetes API of the demo cluster: storage, HTTPS server and credentials."""
