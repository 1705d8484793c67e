//! The console protocol: numbered bytes between seriald and the console that holds the terminal.
//!
//! It runs over a SOCK_SEQPACKET pair, one frame a packet, so that a frame is there whole or not at all. Bytes are
//! numbered from the beginning of the run in each direction. A successor of a seriald that died sends again what it
//! cannot know to have been sent, and the console leaves out what it has; input that seriald has looked at but not
//! removed is seen again by the successor, which leaves out what its predecessor gave to the guest.

use crate::WireError;

/// Most bytes of one frame's text.
pub const MAX_TEXT: usize = 4096;
/// Most bytes of one frame.
pub const MAX_FRAME: usize = HEADER + MAX_TEXT;
const HEADER: usize = 9;
const OUTPUT: u8 = 1;
const INPUT: u8 = 2;

/// One packet: a byte that says which, a little-endian u64 that numbers the first byte of the text, and the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleFrame<'a> {
    /// Seriald to console: bytes that the guest sent.
    Output { number: u64, text: &'a [u8] },
    /// Console to seriald: bytes that were typed.
    Input { number: u64, text: &'a [u8] },
}

impl<'a> ConsoleFrame<'a> {
    /// The packet. Text beyond [`MAX_TEXT`] is for the next one.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, number, text) = match *self {
            Self::Output { number, text } => (OUTPUT, number, text),
            Self::Input { number, text } => (INPUT, number, text),
        };
        let text = &text[..text.len().min(MAX_TEXT)];
        let mut packet = Vec::with_capacity(HEADER + text.len());
        packet.push(kind);
        packet.extend_from_slice(&number.to_le_bytes());
        packet.extend_from_slice(text);
        packet
    }

    pub fn decode(packet: &'a [u8]) -> Result<Self, WireError> {
        let Some((&[kind, ref number @ ..], text)) = packet.split_first_chunk::<HEADER>() else {
            return Err(WireError::BadRange {
                offset: 0,
                len: packet.len() as u64,
                limit: HEADER as u64,
            });
        };
        let number = u64::from_le_bytes(*number);
        if number.checked_add(text.len() as u64).is_none() {
            return Err(WireError::BadValue {
                field: "number of a console frame",
                value: number,
            });
        }
        match kind {
            OUTPUT => Ok(Self::Output { number, text }),
            INPUT => Ok(Self::Input { number, text }),
            other => Err(WireError::UnknownKind(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets() {
        let frame = ConsoleFrame::Output {
            number: 0x0102,
            text: b"hi",
        };
        let packet = frame.encode();
        assert_eq!(packet, b"\x01\x02\x01\0\0\0\0\0\0hi");
        assert_eq!(ConsoleFrame::decode(&packet), Ok(frame));
        assert!(ConsoleFrame::decode(&packet[..8]).is_err());
        assert!(ConsoleFrame::decode(b"\x03\0\0\0\0\0\0\0\0").is_err());
        assert!(ConsoleFrame::decode(b"\x02\xff\xff\xff\xff\xff\xff\xff\xffx").is_err());
    }
}
