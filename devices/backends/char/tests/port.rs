//! A port with each kind of host's end, from both of its sides.

use char_backend::{Endpoint, Input, KEPT, Key, Output, Port, listen, open_pty};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

/// What the guest was given, and who came and went.
struct Guest {
    room: usize,
    count: u64,
    events: mpsc::Sender<Event>,
}

#[derive(Debug, PartialEq, Eq)]
enum Event {
    Given(Vec<u8>),
    Attached(bool),
}

impl Input for Guest {
    fn count(&self) -> u64 {
        self.count
    }

    fn give(&mut self, text: &[u8]) -> io::Result<usize> {
        let taken = text.len().min(self.room);
        if taken != 0 {
            self.count += taken as u64;
            let _ = self.events.send(Event::Given(text[..taken].to_vec()));
        }
        Ok(taken)
    }

    fn attached(&mut self, attached: bool) {
        let _ = self.events.send(Event::Attached(attached));
    }

    fn key(&mut self, _: Key) {}
}

/// A port whose host's end is looked after.
struct Test {
    port: Arc<Port>,
    noted: Arc<AtomicU64>,
    events: mpsc::Receiver<Event>,
    end: Arc<OwnedFd>,
    host: Option<JoinHandle<io::Result<()>>>,
}

impl Test {
    fn new(endpoint: Endpoint, first: u64) -> Self {
        let noted = Arc::new(AtomicU64::new(first));
        let note = Arc::clone(&noted);
        let port = Port::new(endpoint, first, move |n| note.store(n, Ordering::Release)).unwrap();
        let port = Arc::new(port);
        let (events, receiver) = mpsc::channel();
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let (hosts, ends) = (Arc::clone(&port), Arc::clone(&end));
        let mut guest = Guest {
            room: 5,
            count: 0,
            events,
        };
        let host = thread::spawn(move || hosts.host(&mut guest, ends.as_fd()));
        Self {
            port,
            noted,
            events: receiver,
            end,
            host: Some(host),
        }
    }

    fn output(&self, number: u64, text: &[u8]) {
        assert_eq!(self.port.output(number, text).unwrap(), Output::Taken);
    }

    fn wait(&self, event: &Event) {
        while self.events.recv().unwrap() != *event {}
    }

    fn given(&self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            if let Event::Given(text) = self.events.recv().unwrap() {
                all.extend(text);
            }
        }
        all
    }

    fn finish(mut self) {
        rustix::io::write(&*self.end, &1u64.to_ne_bytes()).unwrap();
        self.host.take().unwrap().join().unwrap().unwrap();
    }
}

#[test]
fn with_nobody_attached_the_newest_bytes_are_kept_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let test = Test::new(Endpoint::unix(listen(&path).unwrap()), 0);
    let text: Vec<u8> = (0..KEPT as u32 / 2).flat_map(u32::to_le_bytes).collect();
    for (index, chunk) in text.chunks(4096).enumerate() {
        test.output(index as u64 * 4096, chunk);
    }
    assert_eq!(test.noted.load(Ordering::Acquire), KEPT as u64);
    let mut reader = UnixStream::connect(&path).unwrap();
    let mut seen = vec![0; KEPT];
    reader.read_exact(&mut seen).unwrap();
    assert!(seen == text[KEPT..]);
    reader.write_all(b"hello world").unwrap();
    assert_eq!(test.given(11), b"hello world");
    drop(reader);
    test.wait(&Event::Attached(false));
    test.output(text.len() as u64, b"more");
    let mut reader = UnixStream::connect(&path).unwrap();
    let mut seen = [0; 4];
    reader.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"more");
    test.finish();
}

#[test]
fn a_slow_reader_holds_the_guest_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let test = Test::new(Endpoint::unix(listen(&path).unwrap()), 0);
    let mut reader = UnixStream::connect(&path).unwrap();
    test.wait(&Event::Attached(true));
    // More than a socket's buffers hold.
    let text: Vec<u8> = (0..4u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (port, copy) = (Arc::clone(&test.port), text.clone());
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let writer = thread::spawn(move || {
        for (index, chunk) in copy.chunks(4096).enumerate() {
            port.output(index as u64 * 4096, chunk).unwrap();
            counted.fetch_add(chunk.len() as u64, Ordering::Release);
        }
    });
    let mut seen = vec![0; 4096];
    reader.read_exact(&mut seen).unwrap();
    assert!(
        done.load(Ordering::Acquire) < text.len() as u64,
        "output did not wait for its reader"
    );
    let mut rest = vec![0; text.len() - seen.len()];
    reader.read_exact(&mut rest).unwrap();
    seen.extend(rest);
    writer.join().unwrap();
    assert!(seen == text);
    test.finish();
}

#[test]
fn a_successor_goes_on_where_the_notes_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = listen(&path).unwrap();
    let first = Test::new(Endpoint::unix(listener.try_clone().unwrap()), 0);
    let mut reader = UnixStream::connect(&path).unwrap();
    first.wait(&Event::Attached(true));
    first.output(0, b"seen");
    let mut seen = [0; 4];
    reader.read_exact(&mut seen).unwrap();
    drop(reader);
    first.wait(&Event::Attached(false));
    first.output(4, b" kept");
    let noted = first.noted.load(Ordering::Acquire);
    first.finish();
    assert_eq!(noted, 4);

    let second = Test::new(Endpoint::unix(listener), noted);
    second.port.restore(0, b"seen");
    second.port.restore(4, b" kept");
    second.output(9, b" new");
    let mut reader = UnixStream::connect(&path).unwrap();
    let mut seen = [0; 9];
    reader.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b" kept new");
    second.finish();
}

#[test]
fn a_file_is_written_at_the_byte_s_own_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, "before ").unwrap();
    let (endpoint, base) = Endpoint::file(&path, true, None).unwrap();
    assert_eq!(base, 7);
    let test = Test::new(endpoint, 0);
    test.output(0, b"one ");
    test.finish();
    // It died before it could note that it had written.
    let (endpoint, _) = Endpoint::file(&path, true, Some(base)).unwrap();
    let test = Test::new(endpoint, 0);
    test.output(0, b"one ");
    test.output(4, b"two");
    test.finish();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before one two");
    let (_, base) = Endpoint::file(&path, false, None).unwrap();
    assert_eq!(
        (base, std::fs::read_to_string(&path).unwrap().as_str()),
        (0, "")
    );
}

#[test]
fn a_pseudo_terminal_has_readers_that_come_and_go() {
    let (master, name) = open_pty().unwrap();
    let test = Test::new(Endpoint::pty(master), 0);
    test.output(0, b"first\r\n");
    for (number, text) in [(7, b"second\r\n"), (15, b"third.\r\n")] {
        let mut reader = File::options().read(true).write(true).open(&name).unwrap();
        test.wait(&Event::Attached(true));
        test.output(number, text);
        let mut seen = Vec::new();
        while !seen.ends_with(text) {
            let mut byte = [0];
            reader.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        assert_eq!(seen.starts_with(b"first"), number == 7);
        reader.write_all(b"abc\x03").unwrap();
        assert_eq!(test.given(4), b"abc\x03");
        drop(reader);
        test.wait(&Event::Attached(false));
    }
    test.finish();
}

#[test]
fn a_path_on_which_somebody_listens_is_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let first = listen(&path).unwrap();
    assert!(listen(&path).is_err());
    drop(first);
    assert!(listen(&path).is_ok());
}
