"""The MQTT side: what devices say comes in here, and nothing else does."""
