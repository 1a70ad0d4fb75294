"""Where candidates come from: bootstrap connections, mDNS, the DHT."""
