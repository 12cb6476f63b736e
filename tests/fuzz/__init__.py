"""Programs that search for bytes which break the codec and the receiver: `make fuzz`."""
