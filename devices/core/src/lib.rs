//! The seam between a device model and its seat.
