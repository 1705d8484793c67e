//! The console's end of the console protocol: what the guest sent, once and in order, and what is typed.
//!
//! It is in the process that holds the terminal. That process outlives every seriald, so the terminal
//! never notices that one was replaced.

use atoll_abi::console::{ConsoleFrame, MAX_FRAME, MAX_TEXT};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::io;

/// The two ends: the console's, and the one that every seriald is given.
///
/// # Errors
/// When the host has no descriptors left.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Console {
    socket: OwnedFd,
    received: u64,
    sent: u64,
    /// Typed and not sent yet, because seriald does not take it.
    typed: VecDeque<u8>,
}

impl Console {
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            received: 0,
            sent: 0,
            typed: VecDeque::new(),
        }
    }

    /// Appends what the guest sent and has not been seen yet; one packet at most. `Ok(false)`: there
    /// is nothing now. `UnexpectedEof`: all senders are gone.
    ///
    /// # Errors
    /// When nobody is at the other end, or a packet makes no sense.
    pub fn receive(&mut self, text: &mut Vec<u8>) -> io::Result<bool> {
        let mut packet = vec![0; MAX_FRAME];
        let length = match rustix::net::recv(&self.socket, &mut packet[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        match ConsoleFrame::decode(&packet[..length.min(MAX_FRAME)]) {
            Ok(ConsoleFrame::Output { number, text: new }) => {
                let known =
                    usize::try_from(self.received.saturating_sub(number)).unwrap_or(MAX_TEXT);
                text.extend_from_slice(new.get(known..).unwrap_or_default());
                self.received = self.received.max(number + new.len() as u64);
                Ok(true)
            }
            Ok(ConsoleFrame::Input { .. }) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Adds typed bytes.
    pub fn type_in(&mut self, text: &[u8]) {
        self.typed.extend(text);
    }

    /// Whether bytes wait for room: then poll for it.
    pub fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Sends typed bytes as far as there is room.
    ///
    /// # Errors
    /// When nobody is at the other end.
    pub fn send(&mut self) -> io::Result<()> {
        while !self.typed.is_empty() {
            let front = self.typed.as_slices().0;
            // Short packets: what one seriald has looked at fits into its ring as a whole.
            let text = &front[..front.len().min(256)];
            let packet = ConsoleFrame::Input {
                number: self.sent,
                text,
            }
            .encode();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, &packet, flags) {
                Ok(_) => {
                    let length = text.len();
                    self.typed.drain(..length);
                    self.sent += length as u64;
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_bytes_are_left_out() {
        let (near, far) = socket_pair().unwrap();
        let mut console = Console::new(near);
        let put = |number, text: &[u8]| {
            let packet = ConsoleFrame::Output { number, text }.encode();
            rustix::net::send(&far, &packet, SendFlags::empty()).unwrap();
        };
        put(0, b"abc");
        put(1, b"bcd");
        put(0, b"ab");
        put(4, b"e");
        let mut text = Vec::new();
        while console.receive(&mut text).unwrap() {}
        assert_eq!(text, b"abcde");
        drop(far);
        let error = console.receive(&mut text).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
