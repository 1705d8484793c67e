//! The one implementation of the wire: segments, rings, doorbells, sessions.
