//! A pipe that can be waited for with a limit: a thread reads ahead.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How much is read at once, and how many of that are kept.
const CHUNK: usize = 1 << 16;
const CHUNKS: usize = 16;

/// What comes out of a pipe. Reading fails with [`ErrorKind::WouldBlock`] when nothing has come for so long.
#[derive(Debug)]
pub(super) struct Pipe {
    chunks: Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    patience: Duration,
}

impl Pipe {
    pub(super) fn new(mut source: impl Read + Send + 'static, patience: Duration) -> Pipe {
        let (send, chunks) = sync_channel(CHUNKS);
        std::thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            while let Ok(count @ 1..) = source.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Pipe {
            chunks,
            chunk: Vec::new(),
            at: 0,
            patience,
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.chunks.recv_timeout(self.patience) {
                Ok(chunk) => (self.chunk, self.at) = (chunk, 0),
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
                Err(RecvTimeoutError::Timeout) => return Err(ErrorKind::WouldBlock.into()),
            }
        }
        let count = bytes.len().min(self.chunk.len() - self.at);
        bytes[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
