//! IN and OUT, and the permission to use a port (SDM vol. 1, 18.5).

use crate::bus::{attention, rehearsal};
use crate::cpu::Cpu;
use crate::eval::Eval;
use crate::exception::Stop;
use crate::flags::IOPL;
use crate::op::{Arg, Op, RAX, RDX, Seg, Width};
use crate::state::mode;

impl Cpu {
    /// #GP(0) if neither IOPL nor the task's bitmap allows `bytes` ports from `port`.
    pub(crate) fn check_port(&mut self, port: u16, bytes: u32) -> Result<(), Stop> {
        let s = &self.state;
        let iopl = ((s.rflags & IOPL) >> 12) as u8;
        if s.mode & mode::PROTECTED == 0 || s.mode & mode::V86 == 0 && s.cpl() <= iopl {
            return Ok(());
        }
        let tr = *s.segment(Seg::Tr);
        if tr.attr & 8 == 0 || tr.limit < 0x67 {
            return Err(self.gp(0));
        }
        let map = self.read_system(tr.base.wrapping_add(0x66), 2)?;
        let at = map + (port / 8) as u64;
        if at + 1 > tr.limit as u64 {
            return Err(self.gp(0));
        }
        let bits = self.read_system(tr.base.wrapping_add(at), 2)?;
        let wanted = ((1 << bytes) - 1) << (port % 8);
        if bits & wanted != 0 {
            return Err(self.gp(0));
        }
        Ok(())
    }

    /// Reads a port that the program may use.
    pub(crate) fn read_port(&mut self, port: u16, bytes: u32) -> u32 {
        self.last_port = Some((port, bytes));
        let v = self.bus.port_in(&mut self.state.clock, port, bytes);
        self.note_code_writes();
        v
    }

    /// Writes one. The A20 gate and what a host bridge shows hang on ports, so that the addresses of all that follows may change here.
    pub(crate) fn write_port(&mut self, port: u16, bytes: u32, v: u32) {
        self.last_port = Some((port, bytes));
        self.bus.port_out(&mut self.state.clock, port, bytes, v);
        self.note_code_writes();
        let open = u32::from(self.bus.a20_is_open());
        if open != self.state.a20 {
            self.state.a20 = open;
            self.update_mode();
            self.state.clock.attention |= attention::MODE;
        }
        // In a rehearsal the write reached nobody, and a flush cannot be taken back.
        if self.state.clock.rehearsal == rehearsal::NONE && self.mmu.follow_remaps() {
            self.state.clock.attention |= attention::MODE;
        }
    }
}

fn port(cpu: &mut Cpu, op: &Op, at: Arg) -> u16 {
    if at == Arg::Imm {
        op.imm as u16
    } else {
        cpu.reg(Width::W, RDX) as u16
    }
}

/// IN: `src_arg` Imm or Reg (DX).
pub(crate) fn port_in(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let port = port(cpu, op, op.src_arg);
    let bytes = op.width.bytes();
    cpu.check_port(port, bytes)?;
    let v = cpu.read_port(port, bytes);
    cpu.set_reg(op.width, RAX, v as u64 & op.width.mask());
    Ok(())
}

/// OUT: `dst_arg` Imm or Reg (DX).
pub(crate) fn port_out(cpu: &mut Cpu, op: &Op) -> Result<(), Stop> {
    let port = port(cpu, op, op.dst_arg);
    let bytes = op.width.bytes();
    cpu.check_port(port, bytes)?;
    let v = cpu.reg(op.width, RAX) as u32;
    cpu.write_port(port, bytes, v);
    Ok(())
}
