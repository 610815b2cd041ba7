"""Tests of vm-start, vm-stop, vm-shell, vm-list and their completion."""
