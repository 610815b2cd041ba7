"""Who is connected to whom, see vm-net(1)."""
