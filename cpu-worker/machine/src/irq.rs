//! The interrupt fabric: lines and messages to the I/O APIC, the PIC pair and the local APIC, and from there to the CPU.
//!
//! The controllers belong to the CPU and are always in the worker; their models are in `device_models::irq`. One local APIC today;
//! a second vCPU adds another to this struct and nothing else.

use device_models::irq::{Delivery, Destination, Ioapic, Lapic, Message, Pic, Signal};

/// All interrupt controllers of the machine.
#[derive(Debug)]
pub struct Interrupts {
    pub lapic: Lapic,
    pub ioapic: Ioapic,
    pub pic: Pic,
    nmi: bool,
    /// INTR of the PIC pair when it was last looked at, to see LINT0 rise.
    intr: bool,
}

impl Default for Interrupts {
    fn default() -> Interrupts {
        let mut irq = Interrupts {
            lapic: Lapic::new(0),
            ioapic: Ioapic::new(),
            pic: Pic::new(),
            nmi: false,
            intr: false,
        };
        irq.wire();
        irq
    }
}

impl Interrupts {
    /// What firmware leaves behind: the local APIC in virtual wire mode (MultiProcessor Specification 1.4, 3.6.2.2), so that LINT0
    /// passes the PIC pair's INTR through and LINT1 is the NMI; the PIC pair at vectors 0x08 and 0x70 with all inputs masked.
    fn wire(&mut self) {
        for (register, value) in [(0xf0, 0x1ff), (0x350, 0x700), (0x360, 0x400)] {
            self.lapic.mmio_write(register, value, 0);
        }
        for (port, words) in [
            (0x20, [0x11, 0x08, 0x04, 0x01, 0xff]),
            (0xa0, [0x11, 0x70, 0x02, 0x01, 0xff]),
        ] {
            self.pic.write(port, words[0]);
            for word in &words[1..] {
                self.pic.write(port + 1, *word);
            }
        }
    }

    /// A system reset.
    pub fn reset(&mut self) {
        self.lapic.reset();
        self.ioapic.reset();
        self.pic.reset();
        self.nmi = false;
        self.intr = false;
        self.wire();
    }

    /// An ISA interrupt line takes a level: it goes to the PIC pair and to the I/O APIC.
    pub fn set_isa(&mut self, irq: u8, level: bool) {
        self.pic.set_line(irq, level);
        self.pic_changed();
        let gsi = if irq == 0 { crate::map::PIT_GSI } else { irq };
        self.set_gsi(gsi, level);
    }

    /// An input of the I/O APIC takes a level.
    pub fn set_gsi(&mut self, gsi: u8, level: bool) {
        let mut out = Messages::default();
        self.ioapic
            .set_line(usize::from(gsi), level, &mut |message| out.push(message));
        self.deliver_all(out);
    }

    /// The PIC pair may have raised or dropped INTR, which is wired to LINT0.
    fn pic_changed(&mut self) {
        let intr = self.pic.intr();
        if intr && !self.intr && !self.lapic.takes_extint() {
            self.lapic.lint0_rose();
        }
        self.intr = intr;
    }

    pub fn pic_read(&mut self, port: u16) -> u8 {
        let value = self.pic.read(port);
        self.pic_changed();
        value
    }

    pub fn pic_write(&mut self, port: u16, value: u8) {
        self.pic.write(port, value);
        self.pic_changed();
    }

    pub fn ioapic_read(&self, offset: u64) -> u32 {
        self.ioapic.read(offset)
    }

    pub fn ioapic_write(&mut self, offset: u64, value: u32) {
        let mut out = Messages::default();
        self.ioapic
            .write(offset, value, &mut |message| out.push(message));
        self.deliver_all(out);
    }

    /// A message signalled interrupt: a 32-bit write to 0xFEEx_xxxx.
    pub fn msi(&mut self, address: u64, data: u32) {
        self.deliver(Message::from_msi(address, data));
    }

    /// What a register write of the local APIC asks of the rest.
    pub fn signal(&mut self, signal: Option<Signal>) {
        match signal {
            Some(Signal::Eoi(vector)) => {
                let mut out = Messages::default();
                self.ioapic.eoi(vector, &mut |message| out.push(message));
                self.deliver_all(out);
            }
            Some(Signal::Ipi(message)) => self.deliver(message),
            None => {}
        }
    }

    fn deliver_all(&mut self, messages: Messages) {
        for message in messages.iter() {
            self.deliver(message);
        }
    }

    fn deliver(&mut self, message: Message) {
        let here = match message.destination {
            Destination::All => true,
            Destination::AllButSelf => false,
            destination => self.lapic.matches(destination),
        };
        if !here {
            return;
        }
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority => {
                self.lapic.accept(message.vector, message.trigger)
            }
            Delivery::Nmi => self.nmi = true,
            // An ExtINT entry of the I/O APIC asks the PIC pair for the vector, exactly as LINT0 does; INTR is looked at in `pending`.
            Delivery::ExtInt => {}
            // One processor: there is nobody to start, and system management mode is not modelled.
            Delivery::Init | Delivery::StartUp | Delivery::Smi | Delivery::Reserved => {}
        }
    }

    /// Whether the CPU has an interrupt to take, its own IF aside.
    pub fn is_pending(&self) -> bool {
        self.lapic.pending().is_some() || (self.pic.intr() && self.lapic.takes_extint())
    }

    /// Takes the interrupt of the highest priority. An external interrupt from the PIC pair comes first, as INTR is not
    /// subject to the local APIC's priorities (SDM volume 3, 11.8.3).
    pub fn acknowledge(&mut self) -> Option<u8> {
        if self.pic.intr() && self.lapic.takes_extint() {
            let vector = self.pic.ack();
            self.pic_changed();
            return Some(vector);
        }
        self.lapic.pending()?;
        Some(self.lapic.ack())
    }

    /// Whether an NMI waits.
    pub fn nmi_is_pending(&self) -> bool {
        self.nmi
    }

    /// Takes a pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// Raises an NMI from outside (the monitor, a watchdog).
    pub fn raise_nmi(&mut self) {
        self.nmi = true;
    }
}

/// The messages of one call: at most one per I/O APIC input.
#[derive(Default)]
struct Messages {
    list: [Option<Message>; 24],
    len: usize,
}

impl Messages {
    fn push(&mut self, message: Message) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = Some(message);
            self.len += 1;
        }
    }
    fn iter(self) -> impl Iterator<Item = Message> {
        self.list.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enabled() -> Interrupts {
        let mut irq = Interrupts::default();
        irq.lapic.mmio_write(0xf0, 0x1ff, 0);
        irq
    }

    /// Redirection entry `n`: vector, level-triggered or not, unmasked, to local APIC 0.
    fn redirect(irq: &mut Interrupts, n: u32, vector: u32, level: bool) {
        irq.ioapic_write(0, 0x11 + 2 * n);
        irq.ioapic_write(0x10, 0);
        irq.ioapic_write(0, 0x10 + 2 * n);
        irq.ioapic_write(0x10, vector | if level { 1 << 15 } else { 0 });
    }

    #[test]
    fn a_level_line_comes_again_after_eoi_while_it_is_high() {
        let mut irq = enabled();
        redirect(&mut irq, 16, 0x41, true);
        irq.set_gsi(16, true);
        assert_eq!(irq.acknowledge(), Some(0x41));
        assert!(!irq.is_pending());
        let signal = irq.lapic.mmio_write(0xb0, 0, 0);
        irq.signal(signal);
        assert_eq!(irq.acknowledge(), Some(0x41));
        irq.set_gsi(16, false);
        let signal = irq.lapic.mmio_write(0xb0, 0, 0);
        irq.signal(signal);
        assert!(!irq.is_pending());
    }

    #[test]
    fn isa_zero_reaches_input_two() {
        let mut irq = enabled();
        redirect(&mut irq, 2, 0x30, false);
        irq.set_isa(0, true);
        assert_eq!(irq.acknowledge(), Some(0x30));
    }

    #[test]
    fn an_msi_is_taken() {
        let mut irq = enabled();
        irq.msi(0xfee0_0000, 0x55);
        assert_eq!(irq.acknowledge(), Some(0x55));
        assert_eq!(irq.acknowledge(), None);
    }
}
