"""Commands in a guest: vm-run and its family on the host, the connector between, the agent in the guest."""
