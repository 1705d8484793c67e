//! The board: buses, event wheel, interrupt controllers, firmware, seats.
