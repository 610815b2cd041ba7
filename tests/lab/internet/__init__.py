"""An internet for the lab: two network namespaces, with routers, web servers and the name servers of the whole tree.

    lab's host -- wan0 --[1500]-- internet --[1400]-- far

``internet`` is the next hop of the host's default route. It has the addresses of the root servers, so that a resolver
with nothing but its built-in hints finds what it asks for, and a web server. ``far`` has another one, behind a link
that takes smaller packets. All addresses are of ranges for documentation, but those of the root servers.
"""
