//! The keys that a console keeps for itself: Ctrl-A and the key after it, as QEMU has them.

/// What the user is shown for Ctrl-A h.
pub const HELP: &str = "\r\n\
    Ctrl-A h    print this help\r\n\
    Ctrl-A x    quit\r\n\
    Ctrl-A p    press the power button\r\n\
    Ctrl-A Ctrl-A    send Ctrl-A\r\n";

const CTRL_A: u8 = 0x01;

/// What the user asked the console for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Quit,
    Help,
    PowerButton,
}

/// Takes escape sequences out of what is typed. A sequence may come in two reads.
#[derive(Clone, Debug, Default)]
pub struct Escape {
    pending: bool,
}

impl Escape {
    /// Appends to `text` what goes to the guest, and returns what was asked of the console.
    pub fn filter(&mut self, typed: &[u8], text: &mut Vec<u8>) -> Vec<Key> {
        let mut keys = Vec::new();
        for &byte in typed {
            if !std::mem::take(&mut self.pending) {
                match byte {
                    CTRL_A => self.pending = true,
                    _ => text.push(byte),
                }
                continue;
            }
            match byte {
                b'x' | b'X' => keys.push(Key::Quit),
                b'h' | b'H' | b'?' => keys.push(Key::Help),
                b'p' | b'P' => keys.push(Key::PowerButton),
                CTRL_A => text.push(CTRL_A),
                // Any other key after Ctrl-A is dropped with it, as in QEMU.
                _ => {}
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        type Case = (&'static [&'static [u8]], &'static [u8], &'static [Key]);
        let cases: [Case; 6] = [
            (&[b"ls\r"], b"ls\r", &[]),
            (&[b"\x03\x1a\x1c"], b"\x03\x1a\x1c", &[]),
            (&[b"a\x01xb"], b"ab", &[Key::Quit]),
            (&[b"a\x01", b"hb"], b"ab", &[Key::Help]),
            (&[b"\x01\x01"], b"\x01", &[]),
            (&[b"\x01q\x01p"], b"", &[Key::PowerButton]),
        ];
        for (reads, text, keys) in cases {
            let (mut escape, mut got, mut asked) = (Escape::default(), Vec::new(), Vec::new());
            for read in reads {
                asked.extend(escape.filter(read, &mut got));
            }
            assert_eq!((&got[..], &asked[..]), (text, keys), "{reads:?}");
        }
    }
}
