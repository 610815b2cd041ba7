"""What somebody would try who has taken over a program of ours: run in its place, within the walls of its unit.

Standard library only, nothing compiled, and nothing that harms the host it succeeds on: calls that would are made
with arguments the kernel refuses once it has found the caller privileged enough.
"""
