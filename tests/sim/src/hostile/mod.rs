//! Hostile programs: guests that are made by chance, to break the machine with.
//!
//! A [`Guest`] is a row of programs of up to 1 KiB, each of which is entered in some mode with some registers, after some bits of the
//! descriptor tables, task state and page tables were changed. `hostile/stage.asm` runs them one after another and takes the
//! machine back at whatever ends each. They are noise, or instructions most of which do something (`code.rs`), or traffic with
//! devices (`devices.rs`).
//!
//! Nothing is expected of such a guest but that every engine makes the same of it, that no model panics, and that it ends with its
//! virtual time.

mod code;
mod devices;
mod system;
mod tables;

use device_core::SplitMix64;

/// Where the stage puts things, as `stage.asm` has it.
mod place {
    /// The bytes of a program of a guest's.
    pub(super) const CODE: u64 = 0x1_0000;
    pub(super) const CODE_BYTES: usize = 0x400;
    /// 64 KiB for all.
    pub(super) const DATA: u64 = 0x3_0000;
    pub(super) const VECTORS: u64 = 0;
    pub(super) const GDT: u64 = 0x8000;
    pub(super) const IDT: u64 = 0x9000;
    pub(super) const IDT64: u64 = 0xa000;
    pub(super) const TSS: u64 = 0xb000;
    /// Two levels, PAE, four levels.
    pub(super) const PAGE_TABLES: u64 = 0x2_0000;
    pub(super) const PAGE_TABLES_BYTES: u64 = 0x8000;
    /// Where the image of the stage ends.
    pub(super) const STAGE_BYTES: usize = 0x1_0000;
}

/// The modes of a program, as `stage.asm` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    Protected,
    TwoLevels,
    Protected16,
    Pae,
    Long,
    Compatibility,
    UserLong,
    User,
    Virtual8086,
    UserCompatibility,
    BigReal,
}

impl Mode {
    pub const ALL: [Mode; 12] = [
        Mode::Real,
        Mode::Protected,
        Mode::TwoLevels,
        Mode::Protected16,
        Mode::Pae,
        Mode::Long,
        Mode::Compatibility,
        Mode::UserLong,
        Mode::User,
        Mode::Virtual8086,
        Mode::UserCompatibility,
        Mode::BigReal,
    ];

    /// How wide its code is.
    fn bits(self) -> u32 {
        match self {
            Mode::Real | Mode::Protected16 | Mode::Virtual8086 | Mode::BigReal => 16,
            Mode::Long | Mode::UserLong => 64,
            _ => 32,
        }
    }

    /// Whether it runs in ring 0 and reaches all of the lower 4 GiB.
    fn reaches_devices(self) -> bool {
        matches!(
            self,
            Mode::Protected | Mode::TwoLevels | Mode::Pae | Mode::Long | Mode::Compatibility
        )
    }
}

/// A change of the tables: 32 bits at a physical address are put there, or XORed.
#[derive(Clone, Copy, Debug)]
struct Change {
    address: u64,
    value: u32,
    put: bool,
}

/// A program with its surroundings.
#[derive(Clone, Debug)]
pub struct Program {
    mode: Mode,
    flags: u32,
    registers: [u64; 16],
    changes: Vec<Change>,
    code: Vec<u8>,
}

/// A row of programs.
#[derive(Clone, Debug, Default)]
pub struct Guest(Vec<Program>);

/// How many programs a guest has, and how many changes one.
const PROGRAMS: usize = 32;
const CHANGES: usize = 40;

impl Program {
    /// These bytes as a program, with registers by chance.
    pub fn of_bytes(mode: Mode, bytes: &[u8], rng: &mut SplitMix64) -> Program {
        let code = bytes[..bytes.len().min(place::CODE_BYTES)].to_vec();
        Program::new(mode, code, rng)
    }

    fn new(mode: Mode, code: Vec<u8>, rng: &mut SplitMix64) -> Program {
        let mut registers = [0; 16];
        registers.fill_with(|| tables::register(rng, mode));
        // Most stacks work.
        if rng.below(8) != 0 {
            registers[4] = match mode {
                Mode::Protected16 | Mode::Real | Mode::BigReal | Mode::Virtual8086 => 0xe000,
                _ => 0xe000 - rng.below(64),
            };
        }
        // IF, so that what never ends is ended; and what else there is.
        let noise = rng.next_u64() as u32;
        let flags = match rng.below(4) {
            0 => 0x202 | noise & 0x3_7fd5 & !0x100,
            1 => 0x202 | noise & 0x8d5,
            _ => 0x202,
        };
        Program {
            mode,
            flags,
            registers,
            changes: Vec::new(),
            code,
        }
    }

    /// A program by chance.
    fn random(rng: &mut SplitMix64) -> Program {
        let mode = Mode::ALL[rng.below(Mode::ALL.len() as u64) as usize];
        let code = match rng.below(8) {
            0 => noise(rng),
            1 | 2 if mode.reaches_devices() => devices::traffic(rng, mode.bits()),
            _ => code::instructions(rng, mode),
        };
        let mut program = Program::new(mode, code, rng);
        if rng.below(3) == 0 {
            program.changes = tables::changes(rng, mode);
        }
        program
    }

    /// The record that the stage reads.
    fn record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(0x800);
        let mut put = |value: u32| record.extend(value.to_le_bytes());
        put(self.mode as u32);
        put(self.flags);
        put(self.changes.len() as u32);
        put(0);
        for r in self.registers {
            put(r as u32);
            put((r >> 32) as u32);
        }
        for c in &self.changes {
            put(c.address as u32 | u32::from(c.put) << 31);
            put(c.value);
        }
        record.resize(0x400, 0);
        record.extend(&self.code);
        // Where the code runs out it ends by #UD.
        while record.len() < 0x800 {
            record.extend([0x0f, 0x0b]);
        }
        record.truncate(0x800);
        record
    }
}

/// Bytes without any sense.
fn noise(rng: &mut SplitMix64) -> Vec<u8> {
    let len = 16 + rng.below(place::CODE_BYTES as u64 - 16);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

impl Guest {
    /// The guest of this seed.
    pub fn random(seed: u64) -> Guest {
        let mut rng = SplitMix64::new(seed);
        let count = 4 + rng.below(PROGRAMS as u64 - 3);
        Guest((0..count).map(|_| Program::random(&mut rng)).collect())
    }

    /// A guest of these programs.
    pub fn of(programs: Vec<Program>) -> Guest {
        assert!(programs.len() <= PROGRAMS, "the stage has no room for more");
        Guest(programs)
    }

    pub fn programs(&self) -> &[Program] {
        &self.0
    }

    /// The kernel image: the assembled stage and the programs.
    pub fn image(&self, stage: &[u8]) -> Vec<u8> {
        assert_eq!(stage.len(), place::STAGE_BYTES, "the stage fills its place");
        let mut image = stage.to_vec();
        image.extend((self.0.len() as u32).to_le_bytes());
        image.extend([0; 12]);
        for program in &self.0 {
            image.extend(program.record());
        }
        image
    }
}
