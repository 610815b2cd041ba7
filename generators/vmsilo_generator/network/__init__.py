"""Networks in the configuration. Loaded only where a VM has one."""
