"""`bellevl serve`: the model behind an HTTP API of OpenAI's shape and a page for a browser, on this machine alone.

    command line -> wishes -> run -> app (routes) -> guarding (who may ask) -> requests (what is asked) -> engine (the
    model, one request at a time) -> replies (JSON, or a stream of events)

Nothing here reaches the network: pictures come inside of a request, and an address of one is refused.
"""
