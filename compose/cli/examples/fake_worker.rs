//! A worker without a CPU, for tests of everything around it: it says on COM1 what the kernel command
//! line tells it to, and so needs no guest.
//!
//! Words of the command line: `print=N` sends N numbered lines, `echo` returns what is typed until a
//! `q` comes, `wait` waits for the power button or the end, `halt` stops answering. Then it powers
//! off. The final hash is made of all bytes sent and taken.

use atoll_abi::char::{CharInput, CharRequest, MAX_OUTPUT};
use atoll_abi::clock::{ClockPage, RunState};
use atoll_abi::config::Config;
use atoll_abi::control::{Control, ExitReport, Hello, Role, SegmentRole};
use atoll_abi::exit::ExitReason;
use atoll_abi::{ABI_VERSION, VirtualTime};
use atoll_transport::attach::Incoming;
use atoll_transport::{
    Error, LinkClient, QueueReceiver, Session, SubmitError, View, Waiter, process,
};
use machine_spec::WorkerMachine;
use std::time::{Duration, Instant};

struct Worker {
    session: Session,
    client: LinkClient,
    input: QueueReceiver,
    waiter: Waiter,
    clock: View<ClockPage>,
    sent: u64,
    taken: u64,
    hash: u64,
    button: bool,
    asked: bool,
}

fn main() {
    let fd = std::env::args()
        .nth(2)
        .expect("--session-fd N")
        .parse()
        .expect("a number");
    let mut session = Session::from_fd(process::take_inherited(fd).expect("inherited"));
    let hello = Hello {
        abi_version: ABI_VERSION,
        role: Role::Worker,
        pid: std::process::id(),
        binary: "fake".into(),
        name: "worker".into(),
    };
    session.send(&Control::Hello(hello)).expect("hello");
    let (attach, fds) = loop {
        let message = session.recv(None).expect("a broker").expect("no deadline");
        if let Control::Attach(attach) = message.control {
            break (attach, message.fds);
        }
    };
    let Config::Worker(config) = attach.config.clone() else {
        panic!("not a worker")
    };
    let machine = WorkerMachine::from_bytes(&config.machine).expect("a machine");
    let mut incoming = Incoming::new(&attach, fds);
    let bell = incoming.worker_bell().expect("a bell");
    let clock = incoming.page(SegmentRole::Clock).expect("a clock");
    let links = incoming.links(Some(&bell)).expect("links");
    let (_, link) = links.into_iter().next().expect("a serial line");
    let input = QueueReceiver::input(&link).expect("input");
    let client = LinkClient::new(link).expect("a link");
    session.send(&Control::Ready).expect("ready");
    let mut worker = Worker {
        session,
        client,
        input,
        waiter: bell.waiter(),
        clock,
        sent: 0,
        taken: 0,
        hash: 0xcbf2_9ce4_8422_2325,
        button: false,
        asked: false,
    };
    worker.until_told(|worker| worker.clock.run_state() == RunState::Running);
    for word in machine.guest.append.split_whitespace() {
        if !worker.asked {
            worker.word(word);
        }
    }
    worker.end();
}

impl Worker {
    fn word(&mut self, word: &str) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("print", count) => {
                for line in 0..count.parse().expect("a number") {
                    if self.asked {
                        return;
                    }
                    self.send(format!("line {line:06}\r\n").as_bytes());
                }
            }
            ("echo", _) => self.echo(),
            ("wait", _) => {
                self.send(b"waiting\r\n");
                self.until_told(|worker| worker.button);
            }
            ("halt", _) => std::thread::park(),
            _ => {}
        }
    }

    fn echo(&mut self) {
        self.send(b"type\r\n");
        loop {
            self.until(|_, input| input.has_message());
            if self.asked {
                return;
            }
            let mut payload = Vec::new();
            while let Some(slot) = self.input.receive(&mut payload).expect("sound input") {
                let input = CharInput::decode(&slot).expect("sound input");
                if let CharInput::Bytes { number, .. } = input {
                    assert_eq!(number, self.taken, "a typed byte was lost or repeated");
                    self.taken += input.as_bytes().len() as u64;
                }
                let text = input.as_bytes().to_vec();
                self.mix(&text);
                self.send(&text);
                if text.contains(&b'q') {
                    return;
                }
            }
        }
    }

    /// Sends text, and waits until it was taken.
    fn send(&mut self, text: &[u8]) {
        for chunk in text.chunks(MAX_OUTPUT as usize) {
            let slot = CharRequest::Output { number: self.sent }.encode();
            let seq = loop {
                match self.client.submit(VirtualTime(self.sent), slot, chunk, 0) {
                    Ok(seq) => break seq,
                    Err(SubmitError::Full | SubmitError::Stalled) => {
                        let soon = Instant::now() + Duration::from_millis(50);
                        self.client.wait_room(&mut self.waiter, Some(soon));
                    }
                    Err(error) => panic!("{error:?}"),
                }
            };
            self.sent += chunk.len() as u64;
            self.mix(chunk);
            self.until(|client, _| client.is_answered(seq));
            if self.client.poll(seq).expect("a sound reply").is_some() {
                self.client.release(seq).expect("released once");
            }
        }
    }

    fn mix(&mut self, text: &[u8]) {
        for byte in text {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Waits; ends early when the run is to end.
    fn until(&mut self, ready: impl Fn(&LinkClient, &QueueReceiver) -> bool) {
        while !self.asked && !ready(&self.client, &self.input) {
            self.orders();
            self.clock.beat();
            let (client, input) = (&self.client, &self.input);
            let soon = Instant::now() + Duration::from_millis(20);
            self.waiter.wait(Some(soon), || ready(client, input));
        }
    }

    /// Waits for something that only the broker can make true.
    fn until_told(&mut self, ready: impl Fn(&Self) -> bool) {
        while !self.asked && !ready(self) {
            self.until_soon();
        }
    }

    fn until_soon(&mut self) {
        let soon = Instant::now() + Duration::from_millis(20);
        self.waiter.wait(Some(soon), || false);
        self.orders();
        self.clock.beat();
    }

    fn orders(&mut self) {
        loop {
            match self.session.try_recv() {
                Ok(Some(message)) => match message.control {
                    Control::PowerButton => self.button = true,
                    Control::Stop { .. } => self.asked = true,
                    _ => {}
                },
                Ok(None) => break,
                Err(Error::HangUp) => std::process::exit(1),
                Err(error) => panic!("{error}"),
            }
        }
        self.asked |= self.clock.run_state() == RunState::Stopping;
    }

    fn end(self) {
        let reason = if self.asked {
            ExitReason::Terminated
        } else {
            ExitReason::PowerOff
        };
        let mut final_hash = [1; 32];
        final_hash[..8].copy_from_slice(&self.hash.to_le_bytes());
        let report = ExitReport {
            reason,
            detail: String::new(),
            now: VirtualTime(self.sent),
            instructions: self.sent,
            final_hash,
            stats: "{\"fake\":true}".into(),
        };
        self.session
            .send(&Control::ExitReport(report))
            .expect("a broker");
    }
}
