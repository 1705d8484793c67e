//! What a board must know of a device before it attaches it.

use serde::{Deserialize, Serialize};

/// A device's name, its place on a bus, and bounds on all that it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Names the model and its sections, such as `uart16550` or `virtio-blk`.
    pub kind: String,
    pub attach: Attach,
    /// How many lines it drives; for a PCI function 0 or 1 (its INTx pin).
    pub lines: u16,
    /// How many timers it arms.
    pub timers: u16,
    /// What it submits, if anything.
    pub ports: Ports,
}

/// Bounds on the submitted requests in flight. The model keeps them by itself (what finds no room waits in the guest's
/// own queue until a completion's time), and the seat reserves as much at attach, so admission is part of virtual history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub max_in_flight: u32,
    /// Payload bytes of requests and of replies together.
    pub max_bytes_in_flight: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attach {
    /// At fixed places; `Access::region` is the index into the list.
    Fixed(Vec<Window>),
    /// A PCI function; `Access::region` is the number of the BAR.
    Pci(Box<PciFunction>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Space {
    Port,
    Memory,
}

/// A range of ports or of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub space: Space,
    pub base: u64,
    pub len: u64,
    /// An access wider than this many bytes equals the accesses of this width at ascending offsets. The model itself keeps
    /// that; the board may give it any access that lies within the window.
    pub granule: u8,
}

/// The fixed part of a function's configuration space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PciFunction {
    pub vendor: u16,
    pub device: u16,
    pub revision: u8,
    /// Base class, sub-class and programming interface: `0xBBSSPP`.
    pub class: u32,
    pub subsystem_vendor: u16,
    pub subsystem: u16,
    pub bars: Vec<Bar>,
    /// In the order of the list that the guest walks, MSI-X not among them.
    pub capabilities: Vec<Capability>,
    pub msix: Option<Msix>,
    /// Whether it has an INTx pin (INTA).
    pub intx: bool,
    /// Registers of the device's own in configuration space.
    pub registers: Vec<ConfigByte>,
}

/// A byte of configuration space beyond the standard header, with the bits that the guest may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigByte {
    pub offset: u8,
    pub value: u8,
    pub writable: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarKind {
    Io,
    Memory32,
    /// Takes this BAR's register and the next.
    Memory64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// 0 to 5.
    pub index: u8,
    pub kind: BarKind,
    pub prefetchable: bool,
    /// A power of two: at least 4 for ports, 16 for memory.
    pub size: u64,
    /// As in [`Window::granule`].
    pub granule: u8,
}

/// A capability. `body` is what follows the id and the pointer to the next; bits set in `writable` (as long as `body`, or
/// empty for a read-only one) keep what the guest writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capability {
    pub id: u8,
    pub body: Vec<u8>,
    pub writable: Vec<u8>,
    /// The virtio "PCI configuration access" capability: its last four bytes are a window into a BAR that its own
    /// `bar`, `offset` and `length` fields choose (virtio 1.2, 4.1.4.9).
    pub bar_window: bool,
}

/// An MSI-X table and its pending bits, both kept by the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msix {
    /// 1 to 2048.
    pub vectors: u16,
    pub table_bar: u8,
    pub table_offset: u32,
    pub pba_bar: u8,
    pub pba_offset: u32,
}
