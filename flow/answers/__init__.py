"""Answers: what many flows say together. Flows go in one by one, rows come out; no I/O, and memory is bounded.

party      the two ends of a request by name
told       what one flow tells, whether it came by itself or in a batch
view       one end's view of one request, from the flows that speak of it
requests   views of both ends put together: each request once
reach      which nodes were watched, and when
latency    quantiles of durations
table      columns, rows, their order
filters    which flows a question needs from a server
recent     the newest DNS requests, to find what a server asked in turn
servers    where DNS servers run
drops      DNS packets that did not get further
fate       where a DNS query died
fates      the same of many, for who serves flows
dns, dns_rows                            `flows dns`
search, asker, lookups, ndots, meant, names  `flows dns names`
http                                     `flows http`
encryption                               `flows encryption`
"""
