//! The serial line as a device process.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use atoll_abi::Status;
use atoll_abi::char::CharRequest;
use atoll_abi::config::Config;
use atoll_abi::control::ConsoleRequest;
use atoll_abi::link::LinkKind;
use atoll_transport::{Error, LinkServer, Request};
use char_backend::{Input, Key, Output, Port};
use device_sdk::sandbox::Policy;
use device_sdk::{
    Attachment, Control, Device, Fault, FaultKind, LogLevel, Role, Served, fault, transport_fault,
};

use crate::notes::{self, InputLine};
use crate::open;

/// A serial line whose host's end is open.
pub(crate) struct SerialDevice {
    port: Arc<Port>,
    input: InputLine,
    served: Served,
}

fn host(error: io::Error) -> Fault {
    fault(FaultKind::Host, error)
}

impl Device for SerialDevice {
    const BINARY: &'static str = "seriald";
    const ROLE: Role = Role::Char;

    fn open(attachment: &mut Attachment) -> Result<Self, Fault> {
        let Config::Char(config) = attachment.config.clone() else {
            return Err(fault(
                FaultKind::Protocol,
                "the broker sent no line to serve",
            ));
        };
        let (_, link) = attachment.link(LinkKind::Char)?;
        let endpoint = open::endpoint(&config, attachment, &link)?;
        let served = attachment.serve(LinkKind::Char)?;
        let input = InputLine::open(&link).map_err(|error| transport_fault(&error))?;
        let first = notes::output(&link);
        let told = link.clone();
        let port = Port::new(endpoint, first, move |first| {
            notes::set_output(&told, first)
        });
        Ok(Self {
            port: Arc::new(port.map_err(host)?),
            input,
            served,
        })
    }

    fn policy(&self) -> Policy {
        Policy::common()
            .call(libc::SYS_sendto, "consoles and sockets are written")
            .call(libc::SYS_recvfrom, "consoles and sockets are read")
            .call(libc::SYS_accept4, "a socket's readers come")
            .call(
                libc::SYS_pwrite64,
                "files are written at the byte's own place",
            )
            .call(libc::SYS_ioctl, "a terminal is restored")
    }

    fn serve(self, control: &Control) -> Result<(), Fault> {
        let Self {
            port,
            input,
            served,
        } = self;
        control.watch(served.server.link());
        let mut guest = Guest {
            line: input,
            control: control.clone(),
        };
        let (hosts, ends) = (Arc::clone(&port), control.clone());
        let thread = std::thread::Builder::new()
            .name("host".into())
            .spawn(move || {
                let result = hosts.host(&mut guest, ends.end_event());
                if let Err(error) = &result {
                    ends.log(LogLevel::Error, format!("serial line: {error}"));
                }
                result
            });
        let thread = thread.map_err(host)?;
        let mut line = Line {
            port,
            unsettled: VecDeque::new(),
        };
        line.serve(served, control)?;
        thread.join().unwrap_or(Ok(())).map_err(host)
    }
}

/// The guest's end of the input, and the broker's ear.
struct Guest {
    line: InputLine,
    control: Control,
}

impl Input for Guest {
    fn count(&self) -> u64 {
        self.line.count()
    }

    fn give(&mut self, text: &[u8]) -> io::Result<usize> {
        self.control.beat();
        self.line.give(text).map_err(io::Error::other)
    }

    fn attached(&mut self, attached: bool) {
        let request = if attached {
            ConsoleRequest::Attached
        } else {
            ConsoleRequest::Detached
        };
        self.control.console(request);
    }

    fn key(&mut self, key: Key) {
        if key == Key::Quit {
            self.control.console(ConsoleRequest::Quit);
        }
    }
}

/// The output of the line.
struct Line {
    port: Arc<Port>,
    /// Requests that were answered: their number, and the number of the byte after their last.
    unsettled: VecDeque<(u64, u64)>,
}

impl Line {
    fn serve(&mut self, served: Served, control: &Control) -> Result<(), Fault> {
        let Served { mut server, redo } = served;
        for request in &redo {
            let text = payload(&server, request)?;
            if let CharRequest::Output { number } = decode(request)? {
                self.port.restore(number, &text);
                self.unsettled
                    .push_back((request.seq, number + text.len() as u64));
            } else {
                self.unsettled.push_back((request.seq, 0));
            }
        }
        match self.answer_all(&mut server, control) {
            // A successor has the link.
            Err(End::Replaced) => Ok(()),
            Err(End::Fault(fault)) => Err(fault),
            Ok(()) => Ok(()),
        }
    }

    fn answer_all(&mut self, server: &mut LinkServer, control: &Control) -> Result<(), End> {
        loop {
            // At the end, what was asked before is still answered.
            let Some(request) = server.wait_request(None, || control.ending().is_some())? else {
                if control.ending().is_some() {
                    break;
                }
                continue;
            };
            if !self.answer(server, &request)? {
                break;
            }
            self.settle(server)?;
        }
        self.settle(server)
    }

    /// Does one request; `false` if the end came first.
    fn answer(&mut self, server: &mut LinkServer, request: &Request) -> Result<bool, End> {
        let words = match decode(request)? {
            CharRequest::Output { number } => {
                let text = payload(server, request)?;
                let end = number + text.len() as u64;
                if self.port.output(number, &text).map_err(host)? == Output::Ended {
                    return Ok(false);
                }
                self.unsettled.push_back((request.seq, end));
                [end, 0, 0]
            }
            // No endpoint has modem lines.
            CharRequest::SetLine { .. } => {
                self.unsettled.push_back((request.seq, 0));
                [0; 3]
            }
        };
        server.publish(request, Status::Ok, words, &[])?;
        Ok(true)
    }

    /// Lets go of the requests whose bytes were delivered or given up, and of more if room is short:
    /// then bytes that nobody has read yet would not survive a kill of this process.
    fn settle(&mut self, server: &mut LinkServer) -> Result<(), End> {
        let first = self.port.first();
        let must = server.must_settle();
        let half = self.unsettled.len() / 2;
        let mut up_to = None;
        for (index, (seq, end)) in self.unsettled.iter().enumerate() {
            if *end > first && !(must && index < half) {
                break;
            }
            up_to = Some((index, seq + 1));
        }
        if let Some((index, seq)) = up_to {
            self.unsettled.drain(..=index);
            server.settle(seq)?;
        }
        Ok(())
    }
}

/// Why requests are not answered any more.
enum End {
    Replaced,
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        match error {
            Error::Dead => Self::Replaced,
            error => Self::Fault(transport_fault(&error)),
        }
    }
}

fn payload(server: &LinkServer, request: &Request) -> Result<Vec<u8>, Fault> {
    server
        .payload(request)
        .map_err(|error| transport_fault(&error))
}

fn decode(request: &Request) -> Result<CharRequest, Fault> {
    CharRequest::decode(&request.slot).map_err(|error| {
        fault(
            FaultKind::Protocol,
            format!("request {}: {error}", request.seq),
        )
    })
}
