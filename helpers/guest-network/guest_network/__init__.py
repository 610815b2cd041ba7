"""guest-network: brings the network of a running guest to what the host says now.

Protocol: at the standard input, a JSON object of all credentials of the guest's network, as vmsilo.guest_network has
them; what is not among them any more is taken away. Doing it twice does nothing the second time.
Privileges: root in the guest, which is what the host is there anyway. Distrusts nobody but mistakes: the rules come
into force first and as a whole, and if nft refuses them nothing else changes.
"""
