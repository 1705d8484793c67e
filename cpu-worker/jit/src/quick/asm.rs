//! An assembler for the few forms of x86-64 instructions that the quick translator emits (Intel SDM vol. 2).
//!
//! It is not a general one: operands are registers, memory at `base + displacement` or `base + index`, and immediates of up to 32 bits;
//! jumps have 32-bit displacements. Nothing is checked: the translator asks only for what exists.

/// A host register by its number in the encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Host(pub(super) u8);

pub(super) const RAX: Host = Host(0);
pub(super) const RCX: Host = Host(1);
pub(super) const RDX: Host = Host(2);
pub(super) const RBX: Host = Host(3);
pub(super) const RSP: Host = Host(4);
pub(super) const RSI: Host = Host(6);
pub(super) const RDI: Host = Host(7);
pub(super) const R8: Host = Host(8);
pub(super) const R9: Host = Host(9);
pub(super) const R10: Host = Host(10);
pub(super) const R11: Host = Host(11);
pub(super) const R12: Host = Host(12);
pub(super) const R13: Host = Host(13);
pub(super) const R14: Host = Host(14);
pub(super) const R15: Host = Host(15);

/// A host condition code, as `Cond` of the guest numbers them.
pub(super) type Cc = u8;
pub(super) const CC_O: Cc = 0;
pub(super) const CC_B: Cc = 2;
pub(super) const CC_E: Cc = 4;
pub(super) const CC_NE: Cc = 5;
pub(super) const CC_S: Cc = 8;
pub(super) const CC_L: Cc = 12;

/// The two-operand arithmetic of the first opcode map, by the number in its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Alu {
    Add = 0,
    Or = 1,
    And = 4,
    Sub = 5,
    Xor = 6,
    Cmp = 7,
}

/// Shifts and rotates, by the number in their encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Turn {
    Rol = 0,
    Ror = 1,
    Shl = 4,
    Shr = 5,
    Sar = 7,
}

/// A place in the code that is jumped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Label(u32);

/// A memory operand.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mem {
    /// At a register plus a displacement.
    At(Host, i32),
    /// At the sum of two registers; the second is not RSP.
    Sum(Host, Host),
}

const UNBOUND: usize = usize::MAX;

/// Code in the making.
#[derive(Debug, Default)]
pub(super) struct Asm {
    pub(super) code: Vec<u8>,
    labels: Vec<usize>,
    /// Where a displacement to a label must be written.
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    pub(super) fn bind(&mut self, l: Label) {
        self.labels[l.0 as usize] = self.code.len();
    }

    /// Where the code is, to come back to with [`Asm::cut`].
    pub(super) fn here(&self) -> (usize, usize) {
        (self.code.len(), self.jumps.len())
    }

    /// Forgets what was emitted since.
    pub(super) fn cut(&mut self, (code, jumps): (usize, usize)) {
        self.code.truncate(code);
        self.jumps.truncate(jumps);
    }

    /// Resolves the jumps and gives the code.
    pub(super) fn finish(mut self) -> Vec<u8> {
        for (at, l) in self.jumps {
            let to = self.labels[l.0 as usize];
            debug_assert_ne!(to, UNBOUND);
            let distance = (to as i64 - (at as i64 + 4)) as i32;
            self.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        self.code
    }

    fn byte(&mut self, b: u8) {
        self.code.push(b);
    }

    fn dword(&mut self, v: i32) {
        self.code.extend_from_slice(&v.to_le_bytes());
    }

    /// Prefixes, opcode and operands. `bytes` is the operand size; byte registers always get a REX prefix, so that 4 to 7 are SPL to DIL.
    fn op(&mut self, bytes: u32, opcode: &[u8], reg: u8, rm: Operand) {
        if bytes == 2 {
            self.byte(0x66);
        }
        let (x, b) = match rm {
            Operand::Reg(h) => (0, h.0 >> 3),
            Operand::Mem(Mem::At(h, _)) => (0, h.0 >> 3),
            Operand::Mem(Mem::Sum(h, i)) => (i.0 >> 3, h.0 >> 3),
        };
        let rex = 0x40 | u8::from(bytes == 8) << 3 | (reg >> 3) << 2 | x << 1 | b;
        if rex != 0x40 || bytes == 1 {
            self.byte(rex);
        }
        self.code.extend_from_slice(opcode);
        self.modrm(reg & 7, rm);
    }

    fn modrm(&mut self, reg: u8, rm: Operand) {
        match rm {
            Operand::Reg(h) => self.byte(0xc0 | reg << 3 | (h.0 & 7)),
            Operand::Mem(Mem::At(h, d)) => {
                let short = i8::try_from(d);
                let kind = if short.is_ok() { 0x40 } else { 0x80 };
                self.byte(kind | reg << 3 | (h.0 & 7));
                if h.0 & 7 == 4 {
                    self.byte(0x24);
                }
                match short {
                    Ok(d) => self.byte(d as u8),
                    Err(_) => self.dword(d),
                }
            }
            Operand::Mem(Mem::Sum(h, i)) => {
                self.byte(0x44 | reg << 3);
                self.byte((i.0 & 7) << 3 | (h.0 & 7));
                self.byte(0);
            }
        }
    }

    /// `opcode` as it is for bytes, plus one for wider operands.
    fn sized(&mut self, bytes: u32, opcode: u8, reg: u8, rm: Operand) {
        self.op(bytes, &[opcode | u8::from(bytes != 1)], reg, rm);
    }

    pub(super) fn mov(&mut self, bytes: u32, to: Host, from: Host) {
        self.op(bytes.max(4), &[0x8b], to.0, Operand::Reg(from));
    }

    /// A constant, zero-extended.
    pub(super) fn mov_imm(&mut self, to: Host, v: u64) {
        if v == 0 {
            self.op(4, &[0x33], to.0, Operand::Reg(to));
        } else if let Ok(v) = u32::try_from(v) {
            self.load_imm(to, false);
            self.dword(v as i32);
        } else if let Ok(v) = i32::try_from(v as i64) {
            self.op(8, &[0xc7], 0, Operand::Reg(to));
            self.dword(v);
        } else {
            self.load_imm(to, true);
            self.code.extend_from_slice(&v.to_le_bytes());
        }
    }

    /// A constant, where the host's flags are still wanted.
    pub(super) fn mov_imm_keeping_flags(&mut self, to: Host, v: u32) {
        self.load_imm(to, false);
        self.dword(v as i32);
    }

    fn load_imm(&mut self, to: Host, wide: bool) {
        let rex = 0x40 | u8::from(wide) << 3 | to.0 >> 3;
        if rex != 0x40 {
            self.byte(rex);
        }
        self.byte(0xb8 | to.0 & 7);
    }

    /// Loads and zero-extends.
    pub(super) fn load(&mut self, bytes: u32, to: Host, from: Mem) {
        match bytes {
            1 => self.op(4, &[0x0f, 0xb6], to.0, Operand::Mem(from)),
            2 => self.op(4, &[0x0f, 0xb7], to.0, Operand::Mem(from)),
            _ => self.op(bytes, &[0x8b], to.0, Operand::Mem(from)),
        }
    }

    pub(super) fn store(&mut self, bytes: u32, to: Mem, from: Host) {
        self.sized(bytes, 0x88, from.0, Operand::Mem(to));
    }

    /// Stores a constant; of 8 bytes, one that is its low half sign-extended.
    pub(super) fn store_imm(&mut self, bytes: u32, to: Mem, v: i32) {
        self.sized(bytes, 0xc6, 0, Operand::Mem(to));
        match bytes {
            1 => self.byte(v as u8),
            2 => self.code.extend_from_slice(&(v as u16).to_le_bytes()),
            _ => self.dword(v),
        }
    }

    /// The low `bytes` of a register, zero-extended.
    pub(super) fn zext(&mut self, bytes: u32, to: Host, from: Host) {
        match bytes {
            1 => self.op(1, &[0x0f, 0xb6], to.0, Operand::Reg(from)),
            2 => self.op(4, &[0x0f, 0xb7], to.0, Operand::Reg(from)),
            _ => self.mov(bytes, to, from),
        }
    }

    /// The low `bytes` of a register, sign-extended to 64 bits, or to 32 and then with zeros.
    pub(super) fn sext(&mut self, bytes: u32, wide: bool, to: Host, from: Host) {
        let size = if wide { 8 } else { 4 };
        match bytes {
            1 if wide => self.op(8, &[0x0f, 0xbe], to.0, Operand::Reg(from)),
            1 => self.op(1, &[0x0f, 0xbe], to.0, Operand::Reg(from)),
            2 => self.op(size, &[0x0f, 0xbf], to.0, Operand::Reg(from)),
            _ => self.op(size, &[0x63], to.0, Operand::Reg(from)),
        }
    }

    pub(super) fn alu(&mut self, op: Alu, bytes: u32, to: Host, from: Host) {
        self.sized(bytes, (op as u8) << 3 | 2, to.0, Operand::Reg(from));
    }

    pub(super) fn alu_mem(&mut self, op: Alu, bytes: u32, to: Host, from: Mem) {
        self.sized(bytes, (op as u8) << 3 | 2, to.0, Operand::Mem(from));
    }

    pub(super) fn alu_imm(&mut self, op: Alu, bytes: u32, to: Host, v: i32) {
        self.alu_imm_to(op, bytes, Operand::Reg(to), v);
    }

    pub(super) fn alu_imm_mem(&mut self, op: Alu, bytes: u32, to: Mem, v: i32) {
        self.alu_imm_to(op, bytes, Operand::Mem(to), v);
    }

    fn alu_imm_to(&mut self, op: Alu, bytes: u32, to: Operand, v: i32) {
        match (bytes, i8::try_from(v)) {
            (1, _) => {
                self.op(1, &[0x80], op as u8, to);
                self.byte(v as u8);
            }
            (_, Ok(v)) => {
                self.op(bytes, &[0x83], op as u8, to);
                self.byte(v as u8);
            }
            (2, _) => {
                self.op(2, &[0x81], op as u8, to);
                self.code.extend_from_slice(&(v as u16).to_le_bytes());
            }
            _ => {
                self.op(bytes, &[0x81], op as u8, to);
                self.dword(v);
            }
        }
    }

    pub(super) fn test(&mut self, bytes: u32, a: Host, b: Host) {
        self.sized(bytes, 0x84, a.0, Operand::Reg(b));
    }

    /// Tests bits of a doubleword in memory.
    pub(super) fn test_imm_mem(&mut self, at: Mem, v: i32) {
        self.op(4, &[0xf7], 0, Operand::Mem(at));
        self.dword(v);
    }

    pub(super) fn imul(&mut self, bytes: u32, to: Host, from: Host) {
        self.op(bytes.max(4), &[0x0f, 0xaf], to.0, Operand::Reg(from));
    }

    pub(super) fn not(&mut self, bytes: u32, to: Host) {
        self.op(bytes.max(4), &[0xf7], 2, Operand::Reg(to));
    }

    /// Shifts by CL.
    pub(super) fn turn(&mut self, op: Turn, bytes: u32, to: Host) {
        self.sized(bytes, 0xd2, op as u8, Operand::Reg(to));
    }

    pub(super) fn turn_imm(&mut self, op: Turn, bytes: u32, to: Host, n: u8) {
        self.sized(bytes, 0xc0, op as u8, Operand::Reg(to));
        self.byte(n);
    }

    pub(super) fn bswap(&mut self, bytes: u32, to: Host) {
        let rex = 0x40 | u8::from(bytes == 8) << 3 | to.0 >> 3;
        if rex != 0x40 {
            self.byte(rex);
        }
        self.byte(0x0f);
        self.byte(0xc8 | to.0 & 7);
    }

    /// `to = base + displacement`, of 4 or 8 bytes.
    pub(super) fn lea(&mut self, bytes: u32, to: Host, from: Mem) {
        self.op(bytes, &[0x8d], to.0, Operand::Mem(from));
    }

    /// `to = base + (index << scale) + displacement`, of 8 bytes.
    pub(super) fn lea_scaled(&mut self, to: Host, base: Host, index: Host, scale: u8, d: i32) {
        let rex = 0x48 | (to.0 >> 3) << 2 | (index.0 >> 3) << 1 | base.0 >> 3;
        self.byte(rex);
        self.byte(0x8d);
        self.byte(0x84 | (to.0 & 7) << 3);
        self.byte(scale << 6 | (index.0 & 7) << 3 | (base.0 & 7));
        self.dword(d);
    }

    pub(super) fn setcc(&mut self, cc: Cc, to: Host) {
        self.op(1, &[0x0f, 0x90 | cc], 0, Operand::Reg(to));
    }

    pub(super) fn cmov(&mut self, cc: Cc, to: Host, from: Host) {
        self.op(8, &[0x0f, 0x40 | cc], to.0, Operand::Reg(from));
    }

    pub(super) fn jcc(&mut self, cc: Cc, to: Label) {
        self.code.extend_from_slice(&[0x0f, 0x80 | cc]);
        self.displacement(to);
    }

    pub(super) fn jmp(&mut self, to: Label) {
        self.byte(0xe9);
        self.displacement(to);
    }

    pub(super) fn call(&mut self, to: Label) {
        self.byte(0xe8);
        self.displacement(to);
    }

    fn displacement(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.dword(0);
    }

    pub(super) fn jmp_mem(&mut self, at: Mem) {
        self.op(4, &[0xff], 4, Operand::Mem(at));
    }

    pub(super) fn call_mem(&mut self, at: Mem) {
        self.op(4, &[0xff], 2, Operand::Mem(at));
    }

    pub(super) fn dec_mem(&mut self, at: Mem) {
        self.op(4, &[0xff], 1, Operand::Mem(at));
    }

    /// Makes the arithmetic flags of the host those of EFLAGS bits in a register that have no others.
    pub(super) fn load_flags(&mut self, from: Host) {
        debug_assert!(from.0 < 8);
        self.byte(0x50 | from.0);
        self.byte(0x9d);
    }

    pub(super) fn ret(&mut self) {
        self.byte(0xc3);
    }
}

#[derive(Clone, Copy)]
enum Operand {
    Reg(Host),
    Mem(Mem),
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

    /// What a disassembler reads.
    fn text(emit: impl FnOnce(&mut Asm)) -> String {
        let mut a = Asm::default();
        emit(&mut a);
        let code = a.finish();
        let mut all = Vec::new();
        let mut f = NasmFormatter::new();
        for i in &mut Decoder::new(64, &code, DecoderOptions::NONE) {
            let mut s = String::new();
            f.format(&i, &mut s);
            all.push(s);
        }
        all.join("; ")
    }

    #[test]
    fn every_register_in_every_place() {
        let names = [
            "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11",
            "r12", "r13", "r14", "r15",
        ];
        for (i, n) in names.iter().enumerate() {
            let h = Host(i as u8);
            let t = text(|a| a.load(8, h, Mem::At(h, 1000)));
            assert_eq!(t, format!("mov {n},[{n}+3E8h]"));
            let t = text(|a| a.lea_scaled(h, h, RAX, 2, 16));
            assert_eq!(t, format!("lea {n},[{n}+rax*4+10h]"));
            let t = text(|a| a.mov_imm(h, 0x1234_5678_9abc_def0));
            assert_eq!(t, format!("mov {n},123456789ABCDEF0h"));
            let t = text(|a| a.alu(Alu::Sub, 8, h, R12));
            assert_eq!(t, format!("sub {n},r12"));
            if i != 4 {
                let t = text(|a| a.store(8, Mem::Sum(R13, h), RBX));
                assert!(
                    t.contains(n) && t.contains("r13") && t.ends_with(",rbx"),
                    "{t}"
                );
            }
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(
            text(|a| a.store(1, Mem::At(R15, 8), RSI)),
            "mov [r15+8],sil"
        );
        assert_eq!(
            text(|a| a.store_imm(2, Mem::At(RCX, 0), -2)),
            "mov word [rcx],0FFFEh"
        );
        assert_eq!(text(|a| a.zext(1, R9, RDI)), "movzx r9d,dil");
        assert_eq!(text(|a| a.sext(1, false, R9, RDI)), "movsx r9d,dil");
        assert_eq!(text(|a| a.sext(4, true, RAX, R8)), "movsxd rax,r8d");
        assert_eq!(
            text(|a| a.alu_imm(Alu::Cmp, 2, RBX, 0x1234)),
            "cmp bx,1234h"
        );
        assert_eq!(
            text(|a| a.alu_imm(Alu::And, 8, RBX, -4096)),
            "and rbx,0FFFFFFFFFFFFF000h"
        );
        assert_eq!(text(|a| a.turn_imm(Turn::Sar, 4, R8, 3)), "sar r8d,3");
        assert_eq!(text(|a| a.turn(Turn::Rol, 1, RDX)), "rol dl,cl");
        assert_eq!(text(|a| a.setcc(CC_NE, RSI)), "setne sil");
        assert_eq!(text(|a| a.load_flags(RCX)), "push rcx; popf");
    }
}
