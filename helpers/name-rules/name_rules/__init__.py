"""name-rules: stands before a resolver and lets a VM's firewall follow names.

Protocol: DNS over UDP and TCP (RFC 1035, RFC 7766) on both sides. A question goes to the resolver as the client put
it. Of the answer, the addresses of names that a rule of the client's allows are put into nft's sets with the answer's
time to live, and only then does the client get it.
Privileges: two processes. The one that reads what clients and resolvers send has no capability. It tells the other
one, by messages of fixed size, which address goes into which set for how long; that one has CAP_NET_ADMIN, checks
each message against the configuration, and reads nothing else.
Distrusts: clients, resolvers, and the first process.
"""
