"""Kernel side of the agent: compile, load, attach and read the eBPF programs of bpf/."""
