//! QEMU's firmware configuration device: items of bytes that firmware asks for by number or by name.
//!
//! Source: QEMU, `docs/specs/fw_cfg.rst`. Firmware for QEMU's PC (SeaBIOS, U-Boot) learns from it what a real board would know
//! by itself, and gets the kernel of `-kernel` through it. An item is read byte by byte through the data port, or by DMA.
//!
//! Not modelled: writable items, and the legacy interface's write access.
//!
//! Invariants: the items never change; a DMA operation is complete when the write that started it is.

use device_core::{
    Access, Attach, Cx, Kind, LoadError, Manifest, Model, Ports, Section, Space, Window,
};
use serde::{Deserialize, Serialize};

const KIND: &str = "fw-cfg";
const VERSION: u16 = 1;

/// The selector (two bytes) with the data port in its upper half; the DMA address register is four ports behind.
pub const FW_CFG_PORT: u16 = 0x510;
const REGION_SELECT: u16 = 0;
const REGION_DMA: u16 = 1;

const KEY_SIGNATURE: u16 = 0x00;
const KEY_FEATURES: u16 = 0x01;
const KEY_DIRECTORY: u16 = 0x19;
const KEY_FIRST_FILE: u16 = 0x20;
/// Traditional interface and DMA.
const FEATURES: u32 = 3;
/// What the DMA address register reads as, most significant byte first.
const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

const CONTROL_ERROR: u32 = 1;
const CONTROL_READ: u32 = 2;
const CONTROL_SKIP: u32 = 4;
const CONTROL_SELECT: u32 = 8;
const CONTROL_WRITE: u32 = 16;

/// An item with a number that has a meaning of its own, such as the kernel's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfgItem {
    pub key: u16,
    pub bytes: Vec<u8>,
}

/// An item with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FwCfgFile {
    /// At most 55 bytes.
    pub name: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    key: u16,
    /// How many bytes of the item were read.
    offset: u64,
    /// The DMA address as far as it was written.
    address: u64,
}

/// The device at ports 0x510, 0x511 and 0x514 to 0x51B.
#[derive(Clone, Debug)]
pub struct FwCfg {
    items: Vec<FwCfgItem>,
    state: State,
}

impl FwCfg {
    /// A device with these items, and those that describe it.
    ///
    /// # Panics
    /// If a name is too long: that is the board's mistake.
    pub fn new(mut items: Vec<FwCfgItem>, files: Vec<FwCfgFile>) -> FwCfg {
        let directory = directory(&files);
        let mut add = |key, bytes| items.push(FwCfgItem { key, bytes });
        add(KEY_SIGNATURE, b"QEMU".to_vec());
        add(KEY_FEATURES, FEATURES.to_le_bytes().to_vec());
        add(KEY_DIRECTORY, directory);
        for (key, file) in (KEY_FIRST_FILE..).zip(files) {
            add(key, file.bytes);
        }
        FwCfg {
            items,
            state: State::default(),
        }
    }

    /// The chosen item's bytes that were not read yet.
    fn rest(&self) -> &[u8] {
        let item = self.items.iter().find(|item| item.key == self.state.key);
        let bytes = item.map_or(&[][..], |item| &item.bytes);
        let offset = usize::try_from(self.state.offset).unwrap_or(usize::MAX);
        bytes.get(offset..).unwrap_or_default()
    }

    fn select(&mut self, key: u16) {
        self.state.key = key;
        self.state.offset = 0;
    }

    /// The next byte; behind the item's end there are zeroes.
    fn next(&mut self) -> u8 {
        let byte = self.rest().first().copied().unwrap_or(0);
        self.state.offset = self.state.offset.saturating_add(1);
        byte
    }

    /// Writes to the address register, most significant byte first. The last one starts the operation.
    fn write_address(&mut self, access: Access, value: u64, cx: &mut Cx<'_>) {
        let swapped = value.swap_bytes() >> (64 - 8 * u32::from(access.size));
        match (access.offset, access.size) {
            (0, 8) => self.state.address = swapped,
            (0, 4) => {
                self.state.address = self.state.address & 0xffff_ffff | swapped << 32;
                return;
            }
            (4, 4) => self.state.address = self.state.address & !0xffff_ffff | swapped,
            _ => return,
        }
        self.run(cx);
    }

    /// Does what the structure at the address asks, and says in it how it went.
    fn run(&mut self, cx: &mut Cx<'_>) {
        let at = std::mem::take(&mut self.state.address);
        let mut asked = [0; 16];
        if !cx.dma.read(at, &mut asked) {
            return;
        }
        let [control, length] = [0, 4].map(|i| word(&asked, i));
        let address = u64::from(word(&asked, 8)) << 32 | u64::from(word(&asked, 12));
        if control & CONTROL_SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let mut answer = 0;
        if control & CONTROL_READ != 0 {
            self.transfer(address, length, cx);
        } else if control & CONTROL_WRITE != 0 {
            answer = CONTROL_ERROR;
        } else if control & CONTROL_SKIP != 0 {
            self.state.offset = self.state.offset.saturating_add(u64::from(length));
        }
        cx.effects.dma_write(at, &answer.to_be_bytes());
    }

    /// Copies the next bytes to RAM. An item's end is followed by zeroes, by a page of them at the most: firmware asks for what the
    /// directory says, and a wild length is not to take as much of the host's memory.
    fn transfer(&mut self, address: u64, length: u32, cx: &mut Cx<'_>) {
        const ZEROES: [u8; 4096] = [0; 4096];
        let wanted = u64::from(length);
        let bytes = self.rest();
        let copied = wanted.min(bytes.len() as u64);
        cx.effects.dma_write(address, &bytes[..copied as usize]);
        let zeroes = (wanted - copied).min(ZEROES.len() as u64);
        if zeroes > 0 {
            cx.effects
                .dma_write(address.saturating_add(copied), &ZEROES[..zeroes as usize]);
        }
        self.state.offset = self.state.offset.saturating_add(wanted);
    }
}

/// The names, sizes and numbers of the files.
fn directory(files: &[FwCfgFile]) -> Vec<u8> {
    let mut bytes = (files.len() as u32).to_be_bytes().to_vec();
    for (key, file) in (KEY_FIRST_FILE..).zip(files) {
        let mut name = [0; 56];
        assert!(file.name.len() < name.len(), "{} is too long", file.name);
        name[..file.name.len()].copy_from_slice(file.name.as_bytes());
        bytes.extend((file.bytes.len() as u32).to_be_bytes());
        bytes.extend(key.to_be_bytes());
        bytes.extend([0; 2]);
        bytes.extend(name);
    }
    bytes
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Model for FwCfg {
    fn manifest(&self) -> Manifest {
        let window = |base: u16, len, granule| Window {
            space: Space::Port,
            base: u64::from(base),
            len,
            granule,
        };
        Manifest {
            kind: KIND.into(),
            attach: Attach::Fixed(vec![
                window(FW_CFG_PORT, 2, 2),
                window(FW_CFG_PORT + 4, 8, 8),
            ]),
            lines: 0,
            timers: 0,
            ports: Ports::default(),
        }
    }

    fn access(&mut self, access: Access, cx: &mut Cx<'_>) -> u64 {
        match (access.region, access.kind) {
            (REGION_SELECT, Kind::Write(key)) => {
                if (access.offset, access.size) == (0, 2) {
                    self.select(key as u16);
                }
                0
            }
            (REGION_SELECT, Kind::Read) if (access.offset, access.size) == (1, 1) => {
                u64::from(self.next())
            }
            (REGION_DMA, Kind::Read) => {
                let bytes = (access.offset..access.offset + u64::from(access.size)).rev();
                bytes.fold(0, |value, at| {
                    let byte = DMA_SIGNATURE.get(at as usize).copied().unwrap_or(0);
                    value << 8 | u64::from(byte)
                })
            }
            (REGION_DMA, Kind::Write(value)) => {
                self.write_address(access, value, cx);
                0
            }
            _ => 0,
        }
    }

    fn reset(&mut self, _cx: &mut Cx<'_>) {
        self.state = State::default();
    }

    fn save(&self) -> Section {
        Section::of(KIND, VERSION, &self.state)
    }

    fn load(&mut self, section: &Section) -> Result<(), LoadError> {
        self.state = section.state(KIND, VERSION)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use device_core::conformance;
    use device_core::rig::Rig;

    fn model() -> Box<dyn Model> {
        let item = FwCfgItem {
            key: 0x15,
            bytes: b"quiet\0".to_vec(),
        };
        let file = FwCfgFile {
            name: "etc/x",
            bytes: vec![1, 2, 3],
        };
        Box::new(FwCfg::new(vec![item], vec![file]))
    }

    fn rig() -> Rig {
        Rig::new(model()).with_ram(0x1000)
    }

    fn item(rig: &mut Rig, key: u64, bytes: usize) -> Vec<u8> {
        rig.write(REGION_SELECT, 0, 2, key);
        (0..bytes)
            .map(|_| rig.read(REGION_SELECT, 1, 1) as u8)
            .collect()
    }

    /// Puts a request at 0x100, starts it, and gives the control word that comes back.
    fn dma(rig: &mut Rig, control: u32, length: u32, address: u64) -> u32 {
        let request = [
            &control.to_be_bytes()[..],
            &length.to_be_bytes(),
            &address.to_be_bytes(),
        ]
        .concat();
        rig.ram.0[0x100..0x110].copy_from_slice(&request);
        rig.write(REGION_DMA, 0, 4, 0);
        rig.write(REGION_DMA, 4, 4, u64::from(0x100u32.swap_bytes()));
        u32::from_be_bytes(*rig.ram.0[0x100..].first_chunk().unwrap())
    }

    #[test]
    fn it_conforms() {
        for seed in 0..8 {
            conformance::check(&model, seed, 2000);
        }
    }

    #[test]
    fn items_are_read_byte_by_byte_and_end_in_zeroes() {
        let mut rig = rig();
        assert_eq!(item(&mut rig, 0x00, 4), b"QEMU");
        assert_eq!(item(&mut rig, 0x15, 8), b"quiet\0\0\0");
        assert_eq!(item(&mut rig, 0x77, 2), [0, 0], "there is no such item");
    }

    #[test]
    fn files_are_found_by_name() {
        let mut rig = rig();
        let directory = item(&mut rig, 0x19, 68);
        assert_eq!(directory[..12], [0, 0, 0, 1, 0, 0, 0, 3, 0, 0x20, 0, 0]);
        assert_eq!(directory[12..18], *b"etc/x\0");
        assert_eq!(item(&mut rig, 0x20, 3), [1, 2, 3]);
    }

    #[test]
    fn dma_reads_skips_and_refuses_to_write() {
        let mut rig = rig();
        let signature = rig.read(REGION_DMA, 0, 8);
        assert_eq!(signature.to_le_bytes(), *b"QEMU CFG");
        rig.ram.0[0x200..0x208].fill(0xff);
        assert_eq!(dma(&mut rig, 0x15 << 16 | 8, 0, 0), 0);
        assert_eq!(dma(&mut rig, 4, 2, 0), 0);
        assert_eq!(dma(&mut rig, 2, 6, 0x200), 0);
        assert_eq!(rig.ram.0[0x200..0x208], *b"iet\0\0\0\xff\xff");
        assert_eq!(dma(&mut rig, 0x15 << 16 | 8 | 16, 6, 0x200), 1);
    }

    #[test]
    fn a_wild_length_is_cut() {
        let mut rig = rig();
        assert_eq!(dma(&mut rig, 0x15 << 16 | 8 | 2, u32::MAX, 0xf00), 0);
        assert_eq!(rig.ram.0[0xf00..0xf06], *b"quiet\0");
    }
}
