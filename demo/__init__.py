"""The demo cluster: a small Kubernetes of network namespaces and cgroups on one machine."""
