"""PCI devices of the host: kept from its drivers, and handed to VMs. See vm-pci(8)."""
