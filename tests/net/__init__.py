"""The host's end of VMs' networks: real TAPs, bridges and rules, in network namespaces (root)."""
