"""Turns the files of vmsilo.d into systemd units. See vmsilo-generator(8)."""
