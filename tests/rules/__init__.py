"""Rules of nftables, in the running kernel, in network namespaces (root)."""
