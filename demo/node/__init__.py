"""The nodes of the demo cluster: what kubelet, kube-proxy, CNI and container runtime do, on one machine."""
