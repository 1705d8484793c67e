//! What the XSAVE family needs: components asked for, machines in which some are as new, and areas that can be restored.

use iced_x86::{Instruction, Mnemonic, Register};
use isa_native::{Fx, Machine};

use crate::rng::Rng;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
/// The bytes of an area with AVX state, and where its header is.
pub(super) const BYTES: usize = 832;
const HEADER: usize = 512;

/// Whether the instruction is of the family.
pub(super) fn is_of_family(i: &Instruction) -> bool {
    use Mnemonic::*;
    matches!(
        i.mnemonic(),
        Xsave | Xsave64 | Xsaveopt | Xsaveopt64 | Xsavec | Xsavec64 | Xrstor | Xrstor64 | Xgetbv
    )
}

/// Whether the address takes registers that say which components are meant.
pub(super) fn is_in_the_way(i: &Instruction) -> bool {
    let asks = |r: Register| matches!(r.full_register(), Register::RAX | Register::RDX);
    is_of_family(i) && (asks(i.memory_base()) || asks(i.memory_index()))
}

/// Puts components into their initial configuration, now and then.
pub(super) fn reset_some(m: &mut Machine, rng: &mut Rng) {
    if rng.chance(25) {
        let new = Fx::default();
        m.fx = Fx {
            xmm: m.fx.xmm,
            mxcsr: m.fx.mxcsr,
            ..new
        };
    }
    if rng.chance(25) {
        m.fx.xmm = [[0; 2]; 16];
    }
    if rng.chance(25) {
        m.ymm_high = [[0; 2]; 16];
    }
    if rng.chance(25) {
        m.fx.mxcsr = Fx::default().mxcsr;
    }
}

/// EDX:EAX asks for x87, SSE and AVX state: other components are the host's own. XGETBV's number is in ECX.
pub(super) fn ask(i: &Instruction, m: &mut Machine, rng: &mut Rng) {
    if i.mnemonic() == Mnemonic::Xgetbv {
        m.gpr[RCX] = (m.gpr[RCX] & !0xffff_ffff) | rng.pick(&[0, 0, 1, 1, 2, 0x8000_0000]);
        return;
    }
    let noise = rng.word() << 32;
    m.gpr[RAX] = rng.below(8) | noise;
    m.gpr[RDX] = noise;
}

/// Makes the header, of either form, mostly a good one. The components come from anywhere; the control words are loadable.
pub(super) fn fill(area: &mut [u8], rng: &mut Rng) {
    let mut put = |at: usize, v: u64| area[at..at + 8].copy_from_slice(&v.to_le_bytes());
    let compacted = rng.chance(40);
    let form = rng.below(8);
    let mut present = rng.below(8);
    if compacted && rng.chance(90) {
        present &= form;
    }
    if rng.chance(3) {
        present |= 1 << 62;
    }
    put(HEADER, present);
    put(HEADER + 8, u64::from(compacted) * (1 << 63 | form));
    for n in 2..8 {
        put(HEADER + 8 * n, u64::from(rng.chance(1)));
    }
}
