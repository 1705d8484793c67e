//! What runs a case in Atoll.

use atoll_mmu::{Mmu, Ram};
use atoll_x86::bus::{Bus, Clock};
use atoll_x86::decode::decode;
use atoll_x86::features::Features;
use atoll_x86::op::Seg;
use atoll_x86::state::{Segment, attr, cr};
use atoll_x86::system::Model;
use atoll_x86::{Cpu, Stop};
use isa_native::{
    CODE, COMPLETED, Case, DATA, DATA_BYTES, ENTRY, Outcome, Registers, WRITABLE_BYTES, digest,
};

/// An engine under test.
pub trait Engine {
    /// Runs one case from its registers and fresh data pages.
    fn run(&mut self, case: &Case) -> Outcome;
    /// The writable data pages as the last case left them.
    fn data(&self) -> Vec<u8>;
}

/// The features under test: the default model's, and those more that hosts have and the decoder knows.
pub fn features() -> Features {
    Features::DEFAULT | Features::BMI1 | Features::LZCNT
}

/// Guest-physical addresses: page tables, the code page, the data pages.
const TABLES: u64 = 0x1000;
const CODE_PA: u64 = 0x10_0000;
const DATA_PA: u64 = 0x10_1000;
const RAM_BYTES: u64 = 0x20_0000;

/// A vCPU at CPL 3 in 64-bit mode with the pages of `isa-native`: what all engines start from.
#[derive(Debug)]
pub struct Guest {
    pub(crate) cpu: Cpu,
    pub(crate) ram: Ram,
    pristine: Box<[u8; DATA_BYTES]>,
}

impl Guest {
    pub(crate) fn new(pristine: &[u8; DATA_BYTES]) -> Guest {
        let ram = Ram::anonymous(RAM_BYTES);
        map_pages(&ram);
        ram.write(CODE_PA, &[0xcc; 4096]);
        ram.write(DATA_PA, pristine);
        let model = Model {
            features: features(),
            ..Model::default()
        };
        let cpu = Cpu::new(model, Mmu::new(ram.clone()), Box::new(NoBoard));
        Guest {
            cpu,
            ram,
            pristine: Box::new(*pristine),
        }
    }

    /// Loads a case: fresh data pages, code, registers.
    pub(crate) fn prepare(&mut self, case: &Case) {
        self.ram.write(DATA_PA, &self.pristine[..WRITABLE_BYTES]);
        for &(address, value) in &case.patches[..usize::from(case.patch_count)] {
            self.ram
                .write(address - DATA + DATA_PA, &value.to_le_bytes());
        }
        let mut code = [0xcc; 16];
        code[..usize::from(case.len)].copy_from_slice(&case.code[..usize::from(case.len)]);
        self.ram.write(ENTRY - CODE + CODE_PA, &code);
        enter_user_mode(&mut self.cpu);
        load_registers(&mut self.cpu, &case.before);
    }

    /// The registers now.
    pub(crate) fn registers(&self) -> Registers {
        store_registers(&self.cpu)
    }

    /// The writable data pages now.
    pub(crate) fn data(&self) -> Vec<u8> {
        let mut bytes = vec![0; WRITABLE_BYTES];
        self.ram.read(DATA_PA, &mut bytes);
        bytes
    }
}

/// The interpreter's meaning of single instructions.
#[derive(Debug)]
pub struct Interpreter(Guest);

impl Interpreter {
    /// An interpreter over these data pages.
    pub fn new(pristine: &[u8; DATA_BYTES]) -> Interpreter {
        Interpreter(Guest::new(pristine))
    }
}

impl Engine for Interpreter {
    fn run(&mut self, case: &Case) -> Outcome {
        self.0.prepare(case);
        let cpu = &mut self.0.cpu;
        let code = &case.code[..usize::from(case.len)];
        let op = decode(code, cpu.state.mode, features()).expect("a whole instruction");
        let end = loop {
            cpu.state.set_rip(ENTRY + u64::from(op.len));
            cpu.state.clock.set_deadline(0, 1 << 40);
            cpu.state.clock.attention = 0;
            match (op.run)(cpu, &op) {
                Err(Stop::Again) => {}
                other => break other,
            }
        };
        let (mut vector, mut error, mut cr2) = (COMPLETED, 0, 0);
        if let Err(stop) = end {
            assert_eq!(stop, Stop::Fault, "an instruction of user mode");
            cpu.state.set_rip(ENTRY);
            cpu.settle_fault(&op);
            vector = cpu.fault.vector as u8;
            error = cpu.fault.code.unwrap_or(0);
            cr2 = if vector == 14 { cpu.fault.cr2 } else { 0 };
        }
        Outcome {
            vector,
            error,
            cr2,
            after: self.0.registers(),
            memory: digest(&self.data()),
        }
    }

    fn data(&self) -> Vec<u8> {
        self.0.data()
    }
}

/// Writes an entry of table `table`: 0 to 2 lead to 3, the user's page table, and to 4, free for others.
pub(crate) fn write_entry(ram: &Ram, table: u64, index: u64, value: u64) {
    assert!(ram.write_uint(TABLES + table * 0x1000 + index * 8, 8, value));
}

/// Where the user's page table is; one page on, the one for others.
pub(crate) const USER_TABLE: u64 = TABLES + 0x3000;

/// Four levels of tables with the code page, read-only, and the data pages, the last of them read-only.
fn map_pages(ram: &Ram) {
    const PRESENT: u64 = 1;
    const WRITE: u64 = 2;
    const USER: u64 = 4;
    const USED: u64 = 0x60;
    let entry = |table: u64, index: u64, value: u64| {
        write_entry(ram, table, index, value | PRESENT | USER | USED);
    };
    for level in 0..3u64 {
        let shift = 39 - 9 * level;
        entry(
            level,
            CODE >> shift & 511,
            (TABLES + (level + 1) * 0x1000) | WRITE,
        );
    }
    assert_eq!(CODE >> 21, DATA >> 21, "one table of pages");
    entry(3, CODE >> 12 & 511, CODE_PA);
    for page in 0..3 {
        let writable = if page < 2 { WRITE } else { 0 };
        entry(
            3,
            (DATA >> 12 & 511) + page,
            (DATA_PA + page * 0x1000) | writable,
        );
    }
}

/// The control registers and segments of a Linux process.
fn enter_user_mode(cpu: &mut Cpu) {
    let s = &mut cpu.state;
    s.cr0 =
        cr::CR0_PE | cr::CR0_MP | cr::CR0_ET | cr::CR0_NE | cr::CR0_WP | cr::CR0_AM | cr::CR0_PG;
    s.cr3 = TABLES;
    s.cr4 = cr::CR4_PAE | cr::CR4_PGE | cr::CR4_OSFXSR | cr::CR4_OSXMMEXCPT | cr::CR4_UMIP;
    s.efer = cr::EFER_SCE | cr::EFER_LME | cr::EFER_LMA | cr::EFER_NXE;
    let user = |kind: u16, selector| Segment {
        base: 0,
        limit: u32::MAX,
        attr: kind | attr::S | attr::P | 3 << attr::DPL_SHIFT | attr::G,
        selector,
    };
    for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs, Seg::Ss] {
        s.seg[seg as usize] = user(3 | attr::DB, 0x2b);
    }
    s.seg[Seg::Cs as usize] = user(0xb | attr::L, 0x33);
    cpu.update_mode();
}

fn load_registers(cpu: &mut Cpu, r: &Registers) {
    let s = &mut cpu.state;
    s.gpr[..16].copy_from_slice(&r.gpr);
    s.set_eflags(r.rflags | 0x202);
    s.mxcsr = r.fx.mxcsr;
    s.xmm = r.fx.xmm;
    let x = &mut s.x87;
    (x.control, x.status, x.tags) = (r.fx.control, r.fx.status, r.fx.tags);
    for (i, v) in r.fx.st.into_iter().enumerate() {
        x.regs[physical(r.fx.status, i)] = v;
    }
    cpu.update_mode();
}

/// The physical register of ST(i).
fn physical(status: u16, i: usize) -> usize {
    (usize::from(status >> 11) + i) & 7
}

fn store_registers(cpu: &Cpu) -> Registers {
    let s = &cpu.state;
    let x = &s.x87;
    let mut gpr = [0; 16];
    gpr.copy_from_slice(&s.gpr[..16]);
    Registers {
        gpr,
        rip: s.rip(),
        rflags: s.eflags(),
        fx: isa_native::Fx {
            control: x.control,
            status: x.status,
            tags: x.tags,
            reserved: 0,
            opcode: x.opcode,
            ip: x.ip,
            dp: x.dp,
            mxcsr: s.mxcsr,
            mxcsr_mask: 0xffff,
            st: core::array::from_fn(|i| x.regs[physical(x.status, i)]),
            xmm: s.xmm,
        },
    }
}

/// A board without devices.
struct NoBoard;

impl Bus for NoBoard {
    fn mmio_read(&mut self, _: &mut Clock, _: u64, _: u32) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: &mut Clock, _: u64, _: u32, _: u64) {}
    fn port_in(&mut self, _: &mut Clock, _: u16, _: u32) -> u32 {
        u32::MAX
    }
    fn port_out(&mut self, _: &mut Clock, _: u16, _: u32, _: u32) {}
    fn msr_read(&mut self, _: &mut Clock, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: &mut Clock, _: u32, _: u64) -> bool {
        false
    }
    fn tpr(&mut self) -> u8 {
        0
    }
    fn set_tpr(&mut self, _: &mut Clock, _: u8) {}
    fn interrupt_pending(&mut self, _: &mut Clock) -> bool {
        false
    }
    fn acknowledge(&mut self, _: &mut Clock) -> Option<u8> {
        None
    }
    fn take_nmi(&mut self) -> bool {
        false
    }
    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}
