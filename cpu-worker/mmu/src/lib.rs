//! Guest RAM, the guest-visible TLB, the page walk and the map of translated code.
