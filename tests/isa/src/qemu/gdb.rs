//! The client's half of gdb's remote protocol, as far as QEMU is steered by it: breakpoints, one step, a register, memory, and the
//! monitor's commands.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};

/// A stopped machine at the other end, except during [`Gdb::go_to`] and after [`Gdb::go`].
#[derive(Debug)]
pub(super) struct Gdb {
    socket: UnixStream,
    received: Vec<u8>,
}

/// QEMU's numbers for registers of `i386/gdb-xml/64bit-core.xml`.
pub(super) mod register {
    pub(in super::super) const RAX: u32 = 0;
    pub(in super::super) const RCX: u32 = 2;
    pub(in super::super) const RDX: u32 = 3;
    pub(in super::super) const RIP: u32 = 16;
}

impl Gdb {
    pub(super) fn new(socket: UnixStream) -> Result<Gdb> {
        let mut gdb = Gdb {
            socket,
            received: Vec::new(),
        };
        gdb.ask("?")?;
        // Single registers are only for who has read which there are.
        gdb.ask("qXfer:features:read:target.xml:0,ffb")?;
        Ok(gdb)
    }

    /// Runs until the instruction at this linear address is about to be executed.
    pub(super) fn go_to(&mut self, address: u64) -> Result<()> {
        self.expect_ok(&format!("Z1,{address:x},1"))?;
        let stopped = self.ask("c").with_context(|| {
            format!("QEMU did not come to {address:#x} in time; --from names another place")
        })?;
        ensure!(
            stopped.starts_with('T') || stopped.starts_with('S'),
            "QEMU ended before it came to {address:#x}"
        );
        self.expect_ok(&format!("z1,{address:x},1"))
    }

    /// Executes one instruction.
    pub(super) fn step(&mut self) -> Result<()> {
        self.ask("s").map(drop)
    }

    /// Lets the machine go.
    pub(super) fn go(&mut self) -> Result<()> {
        self.send("c")
    }

    pub(super) fn set_register(&mut self, register: u32, value: u64) -> Result<()> {
        let text = hex(&value.to_le_bytes());
        self.expect_ok(&format!("P{register:x}={text}"))
    }

    /// Memory at a linear address.
    pub(super) fn read(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>> {
        let answer = self.ask(&format!("m{address:x},{bytes:x}"))?;
        unhex(&answer)
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        self.expect_ok(&format!("M{address:x},{:x}:{}", bytes.len(), hex(bytes)))
    }

    /// What the monitor prints for a command.
    pub(super) fn monitor(&mut self, command: &str) -> Result<String> {
        self.send(&format!("qRcmd,{}", hex(command.as_bytes())))?;
        let mut text = Vec::new();
        loop {
            let answer = self.receive()?;
            match answer.strip_prefix('O') {
                Some("K") => return Ok(String::from_utf8_lossy(&text).into_owned()),
                Some(part) => text.extend(unhex(part)?),
                None => bail!("QEMU's monitor refuses {command:?}: {answer}"),
            }
        }
    }

    fn expect_ok(&mut self, packet: &str) -> Result<()> {
        let answer = self.ask(packet)?;
        ensure!(answer == "OK", "QEMU answers {packet} with {answer:?}");
        Ok(())
    }

    fn ask(&mut self, packet: &str) -> Result<String> {
        self.send(packet)?;
        self.receive()
    }

    fn send(&mut self, packet: &str) -> Result<()> {
        let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.socket, "${packet}#{sum:02x}").context("QEMU is gone")
    }

    /// The next packet, acknowledged.
    fn receive(&mut self) -> Result<String> {
        loop {
            if let Some((packet, end)) = first_packet(&self.received) {
                self.received.drain(..end);
                self.socket.write_all(b"+").context("QEMU is gone")?;
                return Ok(packet);
            }
            let mut bytes = [0; 4096];
            let count = self.socket.read(&mut bytes).context("QEMU is silent")?;
            ensure!(count != 0, "QEMU ended");
            self.received.extend(&bytes[..count]);
        }
    }
}

/// The first whole packet and where it ends.
fn first_packet(bytes: &[u8]) -> Option<(String, usize)> {
    let start = bytes.iter().position(|byte| *byte == b'$')? + 1;
    let length = bytes[start..].iter().position(|byte| *byte == b'#')?;
    let end = start + length + 3;
    let packet = String::from_utf8_lossy(&bytes[start..start + length]).into_owned();
    (end <= bytes.len()).then_some((packet, end))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = str::from_utf8(pair).context("not text")?;
            u8::from_str_radix(pair, 16).with_context(|| format!("{pair:?} is no byte"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_behind_acknowledgements() {
        assert_eq!(first_packet(b"+$OK#9a$"), Some(("OK".into(), 7)));
        assert_eq!(first_packet(b"+$OK#9"), None);
        assert_eq!(first_packet(b"+"), None);
    }

    #[test]
    fn bytes_survive_the_protocol() {
        let bytes = [0, 0x7f, 0xff];
        assert_eq!(unhex(&hex(&bytes)).expect("it is hexadecimal"), bytes);
        assert!(unhex("zz").is_err());
    }
}
