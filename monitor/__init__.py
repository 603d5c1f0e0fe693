"""The domain: what a reading means, what it promises, and who hears of it."""
