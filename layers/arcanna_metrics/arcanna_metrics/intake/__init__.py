"""What comes in: events of all kinds, and the routes that say whose training data an object is."""
