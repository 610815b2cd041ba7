"""Rules of nftables, as text for nft(8). Loaded only where a VM has a network."""
