//! What a device process is made of.
