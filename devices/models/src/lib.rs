//! Device models: pure state machines.
