//! Where code and data lie, in the child and in the guest alike.
//!
//! All addresses are below 2 GiB, so that 32-bit displacements, 32-bit addresses (67h) and RIP-relative operands reach
//! them. What is not named here is not mapped.
//!
//! | from | pages | rights |
//! |---|---|---|
//! | [`DATA`] | 2 | read, write |
//! | [`READ_ONLY`] | 1 | read |
//! | [`CODE`] | 2 | read, execute |

/// The size of a page.
pub const PAGE: u64 = 4096;
/// The case's writable memory; the page before it is not mapped.
pub const DATA: u64 = 0x1000_0000;
/// Its size.
pub const DATA_LEN: usize = 2 * PAGE as usize;
/// A page that cannot be written, right behind; the page after it is not mapped.
pub const READ_ONLY: u64 = DATA + DATA_LEN as u64;
/// The end of what can be read.
pub const DATA_END: u64 = READ_ONLY + PAGE;
/// The pages of the instruction; those before and after are not mapped.
pub const CODE: u64 = 0x1001_0000;
/// Their size.
pub const CODE_LEN: usize = 2 * PAGE as usize;

/// What the code pages hold but for the instruction: INT3.
pub const FILL: u8 = 0xcc;

/// What the read-only page holds: bytes in which no two aligned words are equal.
pub fn read_only_page() -> Vec<u8> {
    let word = |n: u64| n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PAGE / 8).flat_map(|n| word(n).to_le_bytes()).collect()
}
