"""The Kubernetes API: configuration, credentials, requests, lists and watches."""
