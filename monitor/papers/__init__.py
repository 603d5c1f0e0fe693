"""Papers: pages for the printer. HTML goes in, PDF comes out; nothing is fetched from anywhere."""
