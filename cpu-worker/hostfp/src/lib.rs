//! Floating-point instructions of the host, executed under the guest's control words.
