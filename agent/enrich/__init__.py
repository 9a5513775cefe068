"""Identity: from a record's cgroup id and addresses to endpoint numbers, as columns.

A record's station here, in order: hashindex (key -> number), cgroups and cgroup_tree (whose socket),
addresses (whose address, when), connections (whose socket at the other end), enricher (all of it). directory
says who is who; kube_* and kubernetes fill it from the Kubernetes API.
"""
