//! What of a CPU is compared, whoever it belongs to: read off QEMU's text (`x86_cpu_dump_state` of QEMU 7.2), or taken from our state.

use std::fmt::Write as _;

use atoll_x86::State;
use atoll_x86::flags::RF;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr"];
/// The order in which the encoding has the registers that QEMU names.
const WIDE: [&str; 16] = [
    "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13",
    "R14", "R15",
];
const NARROW: [&str; 8] = ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"];

/// A segment register with its hidden part; `attr` as in [`atoll_x86::state::Segment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    pub selector: u16,
    pub base: u64,
    pub limit: u32,
    pub attr: u16,
}

/// The registers between two instructions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// All 64 bits of the general registers are known: 64-bit code.
    pub wide: bool,
    /// In the encoding's order.
    pub gpr: [u64; 16],
    pub rip: u64,
    pub flags: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub seg: [Segment; 8],
    /// Base and limit.
    pub gdt: (u64, u32),
    pub idt: (u64, u32),
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub dr: [u64; 8],
    pub efer: u64,
    /// Interrupts are held off for one instruction.
    pub shadow: bool,
    pub halted: bool,
    /// x87 and SSE, where they are compared.
    pub float: Option<Box<Float>>,
}

/// The registers of x87 and SSE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Float {
    pub control: u16,
    pub status: u16,
    /// One bit per physical register: in use.
    pub tags: u8,
    pub mxcsr: u32,
    /// Physical registers: significand, sign and exponent.
    pub st: [(u64, u16); 8],
    /// Low half first; the upper eight are unknown outside of 64-bit code.
    pub xmm: [[u64; 2]; 16],
}

impl Registers {
    /// As our CPU has them.
    pub fn of(state: &State, with_float: bool) -> Registers {
        let mut gpr = [0; 16];
        gpr.copy_from_slice(&state.gpr[..16]);
        let segment = |s: &atoll_x86::state::Segment| Segment {
            selector: s.selector,
            base: s.base,
            limit: s.limit,
            attr: s.attr,
        };
        Registers {
            wide: state.mode & atoll_x86::state::mode::LONG != 0,
            gpr,
            rip: state.rip(),
            flags: state.eflags(),
            seg: state.seg.each_ref().map(segment),
            gdt: (state.gdtr.base, state.gdtr.limit.into()),
            idt: (state.idtr.base, state.idtr.limit.into()),
            cr0: state.cr0,
            cr2: state.cr2,
            cr3: state.cr3,
            cr4: state.cr4,
            dr: state.dr,
            efer: state.efer,
            shadow: state.shadow != 0,
            halted: state.halted != 0,
            float: with_float.then(|| Box::new(Float::of(state))),
        }
    }

    /// Takes one line of QEMU's text. True if it was the last of the registers other than x87 and SSE.
    pub fn read_line(&mut self, line: &str) -> bool {
        if let Some(name) = line.split('=').next().map(str::trim_end)
            && let Some(n) = SEGMENTS.iter().position(|s| s.eq_ignore_ascii_case(name))
        {
            self.read_segment(n, line);
            return false;
        }
        match line.get(..4) {
            Some("GDT=") => self.gdt = table(line),
            Some("IDT=") => self.idt = table(line),
            Some("FPR0" | "FPR2" | "FPR4" | "FPR6") => self.read_x87(line),
            Some(start) if start.starts_with("XMM") || start.starts_with("YMM") => {
                self.read_vectors(line);
            }
            _ => self.read_pairs(line),
        }
        line.starts_with("EFER=")
    }

    fn read_segment(&mut self, n: usize, line: &str) {
        let mut words = line.split('=').nth(1).unwrap_or("").split_whitespace();
        let mut number = || hex(words.next().unwrap_or(""));
        let (selector, base, limit, rights) = (number(), number(), number(), number());
        self.seg[n] = Segment {
            selector: selector as u16,
            base,
            limit: limit as u32,
            attr: (rights >> 8) as u16 & 0xf0ff,
        };
    }

    /// Lines of `NAME=VALUE`, some names with blanks behind them.
    fn read_pairs(&mut self, line: &str) {
        let mut rest = line;
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_end().rsplit([' ', '[']).next().unwrap_or("");
            let after = after.trim_start();
            let end = after.find([' ', ']']).unwrap_or(after.len());
            self.set(name, hex(&after[..end]));
            rest = &after[end..];
        }
    }

    fn set(&mut self, name: &str, value: u64) {
        if let Some(n) = WIDE.iter().position(|wide| *wide == name) {
            self.gpr[n] = value;
            self.wide = true;
            return;
        }
        if let Some(n) = NARROW.iter().position(|narrow| *narrow == name) {
            self.gpr[n] = value;
            return;
        }
        match name {
            "RIP" | "EIP" => self.rip = value,
            "RFL" | "EFL" => self.flags = value,
            "II" => self.shadow = value != 0,
            "HLT" => self.halted = value != 0,
            "CR0" => self.cr0 = value,
            "CR2" => self.cr2 = value,
            "CR3" => self.cr3 = value,
            "CR4" => self.cr4 = value,
            "EFER" => self.efer = value,
            "FCW" => self.float().control = value as u16,
            "FSW" => self.float().status = (self.float().status & 0x3800) | value as u16 & !0x3800,
            "ST" => self.float().status = (self.float().status & !0x3800) | (value as u16) << 11,
            "FTW" => self.float().tags = value as u8,
            "MXCSR" => self.float().mxcsr = value as u32,
            _ => {
                if let Some(n) = name.strip_prefix("DR")
                    && let Ok(n @ 0..8) = n.parse::<usize>()
                {
                    self.dr[n] = value;
                }
            }
        }
    }

    fn float(&mut self) -> &mut Float {
        self.float.get_or_insert_default()
    }

    /// `FPR0=significand exponent FPR1=significand exponent`
    fn read_x87(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let Some((name, significand)) = pair[0].split_once('=') else {
                return;
            };
            if let Some(Ok(n @ 0..8)) = name.strip_prefix("FPR").map(str::parse::<usize>) {
                self.float().st[n] = (hex(significand), hex(pair[1]) as u16);
            }
        }
    }

    /// `XMM00=high low XMM01=high low`, or a YMM register a line.
    fn read_vectors(&mut self, line: &str) {
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let Some((name, first)) = word.split_once('=') else {
                return;
            };
            let mut parts = vec![hex(first)];
            while let Some(part) = words.next_if(|word| !word.contains('=')) {
                parts.push(hex(part));
            }
            if let (Ok(n @ 0..16), [.., high, low]) = (name[3..].parse::<usize>(), &parts[..]) {
                self.float().xmm[n] = [*low, *high];
            }
        }
    }

    /// Each register that is compared, in both, as text and numbers: `self` is ours, and `undefined` are flags that may differ.
    pub fn differences(&self, qemu: &Registers, undefined: u64) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut compare = |name: &str, ours: u64, theirs: u64| {
            if ours != theirs {
                found.push(Difference {
                    name: name.to_owned(),
                    ours,
                    qemu: theirs,
                });
            }
        };
        // Text of 32-bit code has no upper halves, and no registers beyond the eighth.
        let (count, mask) = match qemu.wide {
            true => (16, u64::MAX),
            false => (8, 0xffff_ffff),
        };
        compare("rip", self.rip & mask, qemu.rip & mask);
        for (n, name) in NAMES.iter().enumerate().take(count) {
            compare(name, self.gpr[n] & mask, qemu.gpr[n] & mask);
        }
        // RF is set in images of the flags by QEMU in fewer cases; nothing but debug exceptions depends on it.
        let kept = !(undefined | RF);
        compare("flags", self.flags & kept, qemu.flags & kept);
        for (n, name) in SEGMENTS.iter().enumerate() {
            self.compare_segment(n, name, qemu, mask, &mut compare);
        }
        compare("gdt.base", self.gdt.0 & mask, qemu.gdt.0 & mask);
        compare("gdt.limit", self.gdt.1.into(), qemu.gdt.1.into());
        compare("idt.base", self.idt.0 & mask, qemu.idt.0 & mask);
        compare("idt.limit", self.idt.1.into(), qemu.idt.1.into());
        compare("cr0", self.cr0, qemu.cr0);
        compare("cr2", self.cr2 & mask, qemu.cr2 & mask);
        compare("cr3", self.cr3 & mask, qemu.cr3 & mask);
        compare("cr4", self.cr4, qemu.cr4);
        compare("efer", self.efer, qemu.efer);
        for n in [0, 1, 2, 3, 7] {
            compare(&format!("dr{n}"), self.dr[n] & mask, qemu.dr[n] & mask);
        }
        if let (Some(ours), Some(theirs)) = (&self.float, &qemu.float) {
            ours.compare(theirs, count, &mut compare);
        }
        found
    }

    /// A segment that cannot be used has a selector and, for FS and GS in long mode, a base.
    fn compare_segment(
        &self,
        n: usize,
        name: &str,
        qemu: &Registers,
        mask: u64,
        compare: &mut dyn FnMut(&str, u64, u64),
    ) {
        use atoll_x86::state::attr::{P as PRESENT, S};
        let (ours, theirs) = (&self.seg[n], &qemu.seg[n]);
        compare(
            &format!("{name}.selector"),
            ours.selector.into(),
            theirs.selector.into(),
        );
        let usable = ours.attr & PRESENT != 0 && theirs.attr & PRESENT != 0;
        let is_data = matches!(n, 0 | 2 | 3);
        if usable && !(qemu.wide && is_data) || matches!(n, 4 | 5) {
            compare(
                &format!("{name}.base"),
                ours.base & mask,
                theirs.base & mask,
            );
        }
        if usable && !qemu.wide {
            compare(
                &format!("{name}.limit"),
                ours.limit.into(),
                theirs.limit.into(),
            );
        }
        // What loads write into the descriptor, accessed and busy, QEMU keeps in the register only sometimes; nothing looks at it there.
        let unknown = |attr: u16| match n {
            7 => 2,
            _ if attr & S != 0 => 1,
            _ => 0,
        };
        let rights = |attr: u16| match attr & PRESENT {
            0 => 0,
            _ => u64::from(attr & !unknown(attr)),
        };
        // A null selector in LDTR leaves rights in QEMU.
        if n == 6 && ours.selector & !3 == 0 {
            return;
        }
        if !(qemu.wide && n != 1) {
            compare(
                &format!("{name}.rights"),
                rights(ours.attr),
                rights(theirs.attr),
            );
        }
    }

    /// A few lines for a report.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let count = if self.wide { 16 } else { 8 };
        for (n, name) in NAMES.iter().enumerate().take(count) {
            let end = if n % 4 == 3 { "\n" } else { "  " };
            let _ = write!(text, "{name:>3} {:016x}{end}", self.gpr[n]);
        }
        let _ = write!(
            text,
            "rip {:016x}  flags {:08x}  cs {:04x}  cpl {}  cr0 {:08x}  cr2 {:x}  cr3 {:x}  cr4 {:x}  efer {:x}",
            self.rip,
            self.flags,
            self.seg[1].selector,
            self.seg[2].attr >> 5 & 3,
            self.cr0,
            self.cr2,
            self.cr3,
            self.cr4,
            self.efer
        );
        text
    }
}

impl Float {
    fn of(state: &State) -> Float {
        Float {
            control: state.x87.control,
            status: state.x87.status,
            tags: state.x87.tags,
            mxcsr: state.mxcsr,
            st: state.x87.regs.map(|[low, high]| (low, high as u16)),
            xmm: state.xmm,
        }
    }

    fn compare(&self, qemu: &Float, xmm: usize, compare: &mut dyn FnMut(&str, u64, u64)) {
        compare("fcw", self.control.into(), qemu.control.into());
        compare("fsw", self.status.into(), qemu.status.into());
        compare("ftw", self.tags.into(), qemu.tags.into());
        compare("mxcsr", self.mxcsr.into(), qemu.mxcsr.into());
        for n in (0..8).filter(|n| (self.tags & qemu.tags) >> n & 1 != 0) {
            compare(&format!("fpr{n}"), self.st[n].0, qemu.st[n].0);
            compare(
                &format!("fpr{n}.exponent"),
                self.st[n].1.into(),
                qemu.st[n].1.into(),
            );
        }
        for n in 0..xmm {
            compare(&format!("xmm{n}.low"), self.xmm[n][0], qemu.xmm[n][0]);
            compare(&format!("xmm{n}.high"), self.xmm[n][1], qemu.xmm[n][1]);
        }
    }
}

/// A register that is not the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub name: String,
    pub ours: u64,
    pub qemu: u64,
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text, 16).unwrap_or(0)
}

/// `GDT=     base limit`
fn table(line: &str) -> (u64, u32) {
    let mut words = line[4..].split_whitespace();
    let mut number = || hex(words.next().unwrap_or(""));
    (number(), number() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NARROW_TEXT: &str = "\
EAX=2badb002 EBX=00009500 ECX=00100020 EDX=00000511
ESI=00000000 EDI=00001000 EBP=00000000 ESP=00006f08
EIP=00100020 EFL=00000006 [-----P-] CPL=0 II=1 A20=1 SMM=0 HLT=0
ES =0010 00000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
CS =0008 00000000 ffffffff 00cf9a00 DPL=0 CS32 [-R-]
LDT=0000 00000000 0000ffff 00008200 DPL=0 LDT
TR =0028 00101470 000020ff 00008b00 DPL=0 TSS32-busy
GDT=     000c02b8 00000027
CR0=00000011 CR2=00000003 CR3=00000000 CR4=00000000
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000007 
DR6=00000000ffff0ff0 DR7=0000000000000400
CCS=00000004 CCD=00009500 CCO=EFLAGS
EFER=0000000000000000
FCW=037f FSW=0041 [ST=3] FTW=80 MXCSR=00001f80
FPR6=0000000000000000 0000 FPR7=8000000000000000 3fff
XMM00=0000000000000001 0000000000000002 XMM01=0000000000000003 0000000000000004";

    fn read(text: &str) -> Registers {
        let mut registers = Registers::default();
        let ends: Vec<bool> = text.lines().map(|line| registers.read_line(line)).collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        registers
    }

    #[test]
    fn text_of_32_bit_code_is_read() {
        let r = read(NARROW_TEXT);
        assert!(!r.wide && r.shadow && !r.halted);
        assert_eq!(r.gpr[..4], [0x2bad_b002, 0x10_0020, 0x511, 0x9500]);
        assert_eq!((r.gpr[4], r.rip, r.flags), (0x6f08, 0x10_0020, 6));
        assert_eq!((r.seg[1].selector, r.seg[1].attr), (8, 0xc09a));
        assert_eq!((r.seg[7].base, r.seg[7].limit), (0x10_1470, 0x20ff));
        assert_eq!(
            (r.gdt, r.cr2, r.dr[3], r.dr[7]),
            ((0xc_02b8, 0x27), 3, 7, 0x400)
        );
        let float = r.float.expect("it is there");
        assert_eq!(
            (float.status, float.tags, float.mxcsr),
            (0x1841, 0x80, 0x1f80)
        );
        assert_eq!(float.st[7], (1 << 63, 0x3fff));
        assert_eq!(float.xmm[..2], [[2, 1], [4, 3]]);
    }

    #[test]
    fn text_of_64_bit_code_is_read() {
        let r = read(
            "RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004\n\
             R8 =0000000000000005 R9 =0000000000000006 R10=0000000000000007 R11=0000000000000008\n\
             RIP=ffffffff81000000 RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\n\
             FS =0000 00007f0000000000 ffffffff 00c00000\n\
             EFER=0000000000000d01\n\
             YMM03=0000000000000001 0000000000000002 0000000000000003 0000000000000004",
        );
        assert!(r.wide && r.halted);
        assert_eq!(r.gpr[..4], [1, 3, 4, 2]);
        assert_eq!(r.gpr[8..12], [5, 6, 7, 8]);
        assert_eq!((r.rip, r.efer), (0xffff_ffff_8100_0000, 0xd01));
        assert_eq!(r.seg[4].base, 0x7f00_0000_0000);
        assert_eq!(r.float.expect("it is there").xmm[3], [4, 3]);
    }

    #[test]
    fn only_what_is_known_and_defined_is_compared() {
        let qemu = read(NARROW_TEXT);
        let mut ours = qemu.clone();
        ours.gpr[3] |= 1 << 40;
        ours.flags ^= 0x10;
        assert_eq!(ours.differences(&qemu, 0x10), []);
        ours.gpr[7] ^= 1;
        let found = ours.differences(&qemu, 0);
        let names: Vec<&str> = found.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names, ["rdi", "flags"]);
        assert_eq!((found[0].ours, found[0].qemu), (0x1001, 0x1000));
    }
}
