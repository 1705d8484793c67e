//! Guest RAM, the guest-visible TLB, the page walk and the map of translated code.

/// Memory management of one vCPU.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Mmu {}
