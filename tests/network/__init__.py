"""Networks of VMs, as the generator decides about them."""
