//! QEMU's log of `cpu,int,in_asm,nochain` with one instruction a block, as a stream of events.
//!
//! Before each instruction QEMU prints the registers. An interrupt from outside is a line of its own, then the registers at which it was
//! taken (outside of real mode), then those before the first instruction of its handler. Exceptions print the like, which is
//! dropped: they are the instructions' own doing. Registers may be printed twice for one instruction, when QEMU looked for
//! interrupts in between.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use anyhow::{Context, Result};

use super::registers::Registers;

/// What QEMU did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is about to execute an instruction.
    Before(Box<Registers>),
    /// It takes an interrupt from outside, in this state if that is known.
    Interrupt(u8, Option<Box<Registers>>),
    /// It ended.
    End,
    /// Nothing has come for so long that nothing will.
    Silence,
}

#[derive(Debug)]
pub(super) struct Trace<R> {
    log: BufReader<R>,
    line: Vec<u8>,
    registers: Registers,
    /// What the next registers are those of.
    next: Next,
    /// An interrupt from outside that was announced.
    outside: Option<u8>,
    float: bool,
    held: Option<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Instruction,
    Delivery,
}

impl<R: Read> Trace<R> {
    pub(super) fn new(log: R, float: bool) -> Trace<R> {
        Trace {
            log: BufReader::with_capacity(1 << 16, log),
            line: Vec::new(),
            registers: Registers::default(),
            next: Next::Instruction,
            outside: None,
            float,
            held: None,
        }
    }

    pub(super) fn next(&mut self) -> Result<Event> {
        if let Some(event) = self.held.take() {
            return Ok(event);
        }
        loop {
            self.line.clear();
            match self.log.read_until(b'\n', &mut self.line) {
                Ok(0) => return Ok(Event::End),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Event::Silence),
                Err(error) => return Err(error).context("QEMU's log cannot be read"),
            }
            let Ok(line) = str::from_utf8(&self.line) else {
                continue;
            };
            if let Some(event) = self.take(line.trim_end().to_owned().as_str()) {
                return Ok(event);
            }
        }
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        if let Some(vector) = line.strip_prefix("Servicing hardware INT=0x") {
            self.outside = u8::from_str_radix(vector, 16).ok();
            return None;
        }
        if line.contains(": v=") && line.contains(" e=") {
            self.next = Next::Delivery;
            return None;
        }
        if line.starts_with("0x") || line.starts_with("RAX=") || line.starts_with("EAX=") {
            self.registers.wide = false;
        }
        if line.starts_with("0x") {
            return None;
        }
        let ends_plain = self.registers.read_line(line);
        // What is printed at a delivery is without x87 and SSE.
        let float = self.float && self.next == Next::Instruction;
        let ended = match (float, self.registers.wide) {
            (false, _) => ends_plain,
            (true, true) => line.starts_with("XMM14") || line.starts_with("YMM15"),
            (true, false) => line.starts_with("XMM06") || line.starts_with("YMM07"),
        };
        ended.then(|| self.complete()).flatten()
    }

    /// All registers were printed.
    fn complete(&mut self) -> Option<Event> {
        let mut registers = Box::new(self.registers.clone());
        match std::mem::replace(&mut self.next, Next::Instruction) {
            Next::Delivery => {
                let vector = self.outside.take()?;
                registers.float = None;
                Some(Event::Interrupt(vector, Some(registers)))
            }
            Next::Instruction => Some(match self.outside.take() {
                Some(vector) => {
                    self.held = Some(Event::Before(registers));
                    Event::Interrupt(vector, None)
                }
                None => Event::Before(registers),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(rip: u64) -> String {
        format!("EAX=00000001 EBX=0\nEIP={rip:08x} EFL=00000002\nEFER=0000000000000000\n")
    }

    #[test]
    fn interrupts_are_told_from_exceptions() {
        let log = [
            "----\nIN: \n0x00001000:  fa   cli\n\n",
            &state(0x1000),
            "     1: v=0e e=0002 i=0 cpl=0 IP=0008:00001000\n",
            &state(0x1000),
            &state(0x2000),
            "Servicing hardware INT=0x20\n     2: v=20 e=0000 i=0 cpl=0 IP=0008:00002000\n",
            &state(0x2000),
            &state(0x3000),
            "Servicing hardware INT=0x08\n",
            &state(0x4000),
        ]
        .concat();
        let mut trace = Trace::new(log.as_bytes(), false);
        let mut seen = Vec::new();
        loop {
            seen.push(match trace.next().expect("memory can be read") {
                Event::Before(r) => (0, r.rip),
                Event::Interrupt(vector, at) => (vector, at.map_or(0, |r| r.rip)),
                Event::End => break,
                Event::Silence => unreachable!("memory does not block"),
            });
        }
        let expected = [
            (0, 0x1000),
            (0, 0x2000),
            (0x20, 0x2000),
            (0, 0x3000),
            (8, 0),
            (0, 0x4000),
        ];
        assert_eq!(seen, expected);
    }
}
