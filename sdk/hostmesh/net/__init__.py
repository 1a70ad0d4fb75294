"""The node: a libp2p host with its key, dialer, limits, bootstrap loop and DHT. The only room that knows libp2p."""
