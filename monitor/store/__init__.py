"""Where facts are kept: one SQL schema, and telemetry behind one protocol."""
