//! The guest's x87 unit in the host's: what emitted code uses from its first x87 instruction until Rust runs again.
//!
//! While emitted code runs, the host's x87 unit may hold the guest's whole: registers, tags, top, status and control word. An
//! instruction is then the same instruction, in a stub of its own: its own two bytes and a return. Everything that the
//! instruction does besides its result (C0 to C3, sticky flags, empty and full stacks, denormals, precision and rounding
//! control) is done by the host and needs no thought, as long as every exception is masked; with one unmasked the guest's unit
//! is never loaded. Transcendentals have no stub: hosts differ in them.
//!
//! [`Image`] is how the unit is loaded and taken back: what FRSTOR reads and FNSAVE writes. FNSAVE also leaves the host's unit
//! as the ABI wants it. The instruction and data pointers are not the host's business, and zero in an image.
//!
//! Sources: Intel SDM vol. 1, 8.1.10, figure 8-9; vol. 2D, table A-7 ff. (the x87 opcode maps).

use core::arch::naked_asm;

use crate::x87::F80;

/// The area of FNSAVE and FRSTOR in 32-bit protected format: seven dwords of environment, then ST(0) to ST(7), ten bytes each.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Image([u8; IMAGE_BYTES]);

/// The size of an [`Image`].
pub const IMAGE_BYTES: usize = 28 + 8 * 10;

/// The unit as the guest's state has it: registers by their physical number, a bit for each that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub regs: [F80; 8],
    pub control: u16,
    pub status: u16,
    pub tags: u8,
}

/// The first register in an image.
const REGISTERS: usize = 28;

/// The place in the image of physical register `p`, the unit's status being `status`.
#[inline(always)]
fn place(status: u16, p: usize) -> usize {
    let top = usize::from(status >> 11 & 7);
    REGISTERS + 10 * (p.wrapping_sub(top) & 7)
}

impl Image {
    /// The image that loads `unit`.
    #[inline]
    pub fn of(unit: &Unit) -> Image {
        let mut i = Image([0; IMAGE_BYTES]);
        let mut tags = 0;
        for (p, r) in unit.regs.iter().enumerate() {
            let at = place(unit.status, p);
            i.0[at..at + 8].copy_from_slice(&r[0].to_le_bytes());
            i.0[at + 8..at + 10].copy_from_slice(&(r[1] as u16).to_le_bytes());
            // FRSTOR takes from a tag only whether the register is empty.
            tags |= if unit.tags >> p & 1 == 0 { 3 } else { 0 } << (2 * p);
        }
        for (at, word) in [(0, unit.control), (4, unit.status), (8, tags)] {
            i.0[at..at + 2].copy_from_slice(&word.to_le_bytes());
        }
        i
    }

    /// The unit that was saved.
    #[inline]
    pub fn unit(&self) -> Unit {
        let word = |at: usize| u16::from_le_bytes([self.0[at], self.0[at + 1]]);
        let (status, full) = (word(4), word(8));
        let mut unit = Unit {
            regs: [[0; 2]; 8],
            control: word(0),
            status,
            tags: 0,
        };
        for (p, r) in unit.regs.iter_mut().enumerate() {
            let at = place(status, p);
            let mut low = [0; 8];
            low.copy_from_slice(&self.0[at..at + 8]);
            *r = [u64::from_le_bytes(low), word(at + 8).into()];
            unit.tags |= u8::from(full >> (2 * p) & 3 != 3) << p;
        }
        unit
    }
}

/// How an instruction meets emitted code. Those of the first three forms move the unit's instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// On the stack alone.
    Stack,
    /// On so many bytes of memory, which it reads. The stub gets their address.
    Load(u32),
    /// On so many bytes of memory, which it writes. The stub gets their address.
    Store(u32),
    /// FCOMI and its like. The stub gets the address of a byte for the flags: ZF, PF and CF as EFLAGS has them, and others.
    Flags,
    /// FCMOVcc. The stub gets the truth of the condition, 1 or 0.
    Move,
    /// FNCLEX.
    Clear,
    /// FLDCW. The stub gets the address of a word with only defined bits, all exceptions masked.
    LoadControl,
    /// FNSTCW, without a stub: the guest's state always holds the control word.
    StoreControl,
    /// FNSTSW. The stub, that of the form with memory, gets the address of a word; the destination may also be AX.
    StoreStatus,
    /// WAIT, which has no stub: nothing can be pending.
    Wait,
}

/// The form of an instruction, by its last opcode byte and the ModRM byte (high and low byte of `code`; WAIT is 0x9b00). None if it
/// is not one for the host: the transcendentals, whole environments, and what is not documented.
pub const fn form(code: u16) -> Option<Form> {
    let (escape, modrm) = ((code >> 8) as u8, code as u8);
    if escape == 0x9b {
        return Some(Form::Wait);
    }
    if escape & 0xf8 != 0xd8 {
        return None;
    }
    if modrm < 0xc0 {
        return memory_form(escape, modrm >> 3 & 7);
    }
    Some(match (escape, modrm) {
        (0xd8 | 0xdc, _) => Form::Stack,
        // FLD, FXCH, FNOP; FCHS, FABS, FTST, FXAM; the constants; FXTRACT, FPREM1, FDECSTP, FINCSTP; FPREM, FSQRT, FRNDINT, FSCALE.
        (0xd9, 0xc0..=0xd0 | 0xe0 | 0xe1 | 0xe4 | 0xe5 | 0xe8..=0xee) => Form::Stack,
        (0xd9, 0xf4..=0xf8 | 0xfa | 0xfc | 0xfd) => Form::Stack,
        (0xda | 0xdb, 0xc0..=0xdf) => Form::Move,
        // FUCOMPP
        (0xda, 0xe9) => Form::Stack,
        (0xdb, 0xe2) => Form::Clear,
        (0xdb | 0xdf, 0xe8..=0xf7) => Form::Flags,
        // FFREE, FST, FSTP, FUCOM, FUCOMP
        (0xdd, 0xc0..=0xc7 | 0xd0..=0xef) => Form::Stack,
        // The popping arithmetic; FCOMPP
        (0xde, 0xc0..=0xcf | 0xd9 | 0xe0..=0xff) => Form::Stack,
        // FFREEP
        (0xdf, 0xc0..=0xc7) => Form::Stack,
        (0xdf, 0xe0) => Form::StoreStatus,
        _ => return None,
    })
}

const fn memory_form(escape: u8, reg: u8) -> Option<Form> {
    Some(match (escape, reg) {
        (0xd8 | 0xda, _) => Form::Load(4),
        (0xdc, _) => Form::Load(8),
        (0xde, _) => Form::Load(2),
        (0xd9, 5) => Form::LoadControl,
        (0xd9, 7) => Form::StoreControl,
        (0xdd, 7) => Form::StoreStatus,
        (0xd9 | 0xdb, 0) => Form::Load(4),
        (0xd9, 2 | 3) | (0xdb, 1..=3) => Form::Store(4),
        (0xdb, 5) | (0xdf, 4) => Form::Load(10),
        (0xdb, 7) | (0xdf, 6) => Form::Store(10),
        (0xdd, 0) | (0xdf, 5) => Form::Load(8),
        (0xdd, 1..=3) | (0xdf, 7) => Form::Store(8),
        (0xdf, 0) => Form::Load(2),
        (0xdf, 1..=3) => Form::Store(2),
        _ => return None,
    })
}

/// FNSTSW to memory, whose stub also serves FNSTSW AX.
pub const STORE_STATUS: u16 = 0xdd38;
/// Bytes of each stub.
const STUB: usize = 8;

/// Where the stub of an instruction is, as a distance from [`stubs`].
pub const fn stub(code: u16) -> usize {
    let (escape, modrm) = ((code >> 8 & 7) as usize, code as u8 as usize);
    match form(code) {
        // The condition has been looked at: one form will do for all.
        Some(Form::Move) => STUB * (2 << 6 | modrm & 7),
        _ if modrm >= 0xc0 => STUB * (escape << 6 | modrm & 63),
        _ => STUB * (512 + (escape << 3 | modrm >> 3 & 7)),
    }
}

/// The first stub. All take their argument, if any, in RDI, and change no register besides the x87 unit's (but EFLAGS).
pub fn stubs() -> usize {
    table as *const () as usize
}

/// Not a function but a table: each entry of [`STUB`] bytes is one. First D8 to DF with ModRM C0 to FF, then D8 to DF with memory at [RDI],
/// by the ModRM byte's middle field.
///
/// Entries that [`form`] has no stub for are there, and never called.
#[unsafe(naked)]
unsafe extern "C" fn table() {
    naked_asm!(
        ".set atoll_x87_escape, 0xd8",
        ".rept 8",
        ".set atoll_x87_modrm, 0xc0",
        ".rept 64",
        // FCMOVB stands for all FCMOVcc.
        ".if atoll_x87_escape == 0xda && atoll_x87_modrm < 0xc8",
        "bt edi, 0",
        ".endif",
        ".byte atoll_x87_escape, atoll_x87_modrm",
        ".if (atoll_x87_escape == 0xdb || atoll_x87_escape == 0xdf) && atoll_x87_modrm >= 0xe8 && atoll_x87_modrm <= 0xf7",
        "push rax",
        "lahf",
        "mov byte ptr [rdi], ah",
        "pop rax",
        ".endif",
        "ret",
        ".p2align 3, 0xcc",
        ".set atoll_x87_modrm, atoll_x87_modrm + 1",
        ".endr",
        ".set atoll_x87_escape, atoll_x87_escape + 1",
        ".endr",
        ".set atoll_x87_escape, 0xd8",
        ".rept 8",
        ".set atoll_x87_modrm, 0x07",
        ".rept 8",
        ".byte atoll_x87_escape, atoll_x87_modrm",
        "ret",
        ".p2align 3, 0xcc",
        ".set atoll_x87_modrm, atoll_x87_modrm + 8",
        ".endr",
        ".set atoll_x87_escape, atoll_x87_escape + 1",
        ".endr",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::arch::asm;

    fn unit() -> Unit {
        Unit {
            regs: [1, 2, 3, 4, 5, 6, 7, 8].map(|n| [n << 60 | 0x123, 0x3fff + n]),
            control: 0x77f,
            status: 3 << 11 | 0x4221,
            tags: 0b0011_1010,
        }
    }

    #[test]
    fn an_image_holds_the_unit() {
        assert_eq!(Image::of(&unit()).unit(), unit());
    }

    #[test]
    fn the_host_loads_and_saves_it() {
        let before = Image::of(&unit());
        let mut after = Image([0; IMAGE_BYTES]);
        // SAFETY: FRSTOR and FNSAVE touch the images alone, and FNSAVE leaves the unit as the ABI wants it.
        unsafe {
            asm!("frstor [{a}]", "fnsave [{b}]", a = in(reg) &raw const before, b = in(reg) &raw mut after,
                 out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                 out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
        }
        assert_eq!(after.unit(), unit());
    }

    /// Runs one stub on a loaded unit.
    fn run(code: u16, unit: &Unit, argument: usize) -> Unit {
        let before = Image::of(unit);
        let mut after = Image([0; IMAGE_BYTES]);
        let stub = stubs() + stub(code);
        // SAFETY: as above; the stub changes the x87 unit and what its argument points to.
        unsafe {
            asm!("frstor [{a}]", "call {stub}", "fnsave [{b}]", a = in(reg) &raw const before,
                 b = in(reg) &raw mut after, stub = in(reg) stub, in("rdi") argument,
                 out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                 out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _);
        }
        after.unit()
    }

    /// ST(0) = 3, ST(1) = 2, the rest empty.
    fn three_and_two() -> Unit {
        let mut regs = [[0; 2]; 8];
        regs[6] = [3 << 62, 0x4000];
        regs[7] = [1 << 63, 0x4000];
        Unit {
            regs,
            control: 0x37f,
            status: 6 << 11,
            tags: 0b1100_0000,
        }
    }

    #[test]
    fn stubs_do_what_their_code_says() {
        let u = three_and_two();
        let sum = run(0xd8c1, &u, 0);
        assert_eq!(sum.regs[6], [5 << 61, 0x4001], "FADD");
        let popped = run(0xdec9, &u, 0);
        assert_eq!(
            (popped.regs[7], popped.tags),
            ([3 << 62, 0x4001], 0x80),
            "FMULP"
        );
        let half = 0.5f64;
        let minus = run(0xdc20, &u, &raw const half as usize);
        assert_eq!(minus.regs[6], [5 << 61, 0x4000], "FSUB m64");
        let mut stored = 0f32;
        assert_eq!(run(0xd918, &u, &raw mut stored as usize).tags, 0x80);
        assert_eq!(stored, 3.0, "FSTP m32");
    }

    #[test]
    fn comparisons_and_conditional_moves_have_an_argument() {
        let u = three_and_two();
        for (code, pops) in [(0xdbe9, false), (0xdbf1, false), (0xdff1, true)] {
            let mut flags = 0xffu8;
            let after = run(code, &u, &raw mut flags as usize);
            assert_eq!(flags & 0x45, 0, "3 > 2");
            assert_eq!(after.tags == 0x80, pops);
        }
        // FCMOVB and FCMOVNU alike move where the argument says so.
        for code in [0xdac1, 0xdbd9] {
            assert_eq!(run(code, &u, 0).regs[6], u.regs[6]);
            assert_eq!(run(code, &u, 1).regs[6], u.regs[7]);
        }
    }

    #[test]
    fn what_hosts_may_do_differently_has_no_form() {
        // F2XM1, FYL2X, FPTAN, FPATAN, FYL2XP1, FSINCOS, FSIN, FCOS; FLDENV, FNSTENV, FRSTOR, FNSAVE, FNINIT.
        for code in [
            0xd9f0, 0xd9f1, 0xd9f2, 0xd9f3, 0xd9f9, 0xd9fb, 0xd9fe, 0xd9ff, 0xd920, 0xd930, 0xdd20,
            0xdd30, 0xdbe3,
        ] {
            assert_eq!(form(code), None, "{code:x}");
        }
    }
}
