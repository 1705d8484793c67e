//! The loop of a process that serves a request link.
//!
//! Order is kept by doing one request after another: each takes effect, then its reply is published,
//! then the next begins. So requests take effect in issue order, and a write never overtakes an
//! earlier read that a successor would have to answer again.
//!
//! Settlement (DESIGN.md, section 4): a request stays in the journal until its effect does not hang
//! on this process. The server settles when the journal is half full, when there is nothing to do,
//! and at the end.

use std::time::{Duration, Instant};

use atoll_abi::Status;
use atoll_abi::control::Fault;
use atoll_transport::{Error, LinkServer, Request};

use crate::attach::transport_fault;
use crate::control::Control;

/// How long a link is quiet before its journal is settled. Settling during a burst would only write
/// the same tables again.
const QUIET: Duration = Duration::from_millis(5);

/// The serving end of a request link, and what a predecessor left to repeat.
#[derive(Debug)]
pub struct Served {
    pub server: LinkServer,
    /// Published but not settled, in order.
    pub redo: Vec<Request>,
}

/// What answers requests.
pub trait RequestServer {
    /// Repeats the effect of a request that a predecessor answered and did not settle.
    fn redo(&mut self, link: &LinkServer, request: &Request) -> Result<(), Fault>;

    /// Does a request. `payload` is empty and takes the bytes of the reply.
    fn answer(
        &mut self,
        link: &LinkServer,
        request: &Request,
        payload: &mut Vec<u8>,
    ) -> Result<Answer, Fault>;

    /// Makes sure that no effect so far hangs on this process.
    fn settle(&mut self) -> Result<(), Fault>;

    /// No effect so far hangs on this process, so that settling costs nothing.
    fn is_settled(&self) -> bool;

    /// Makes what was answered as durable as it will get: the last call.
    fn finish(&mut self) -> Result<(), Fault>;
}

/// A reply without its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    pub words: [u64; 3],
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Answer {
            status,
            words: [0; 3],
        }
    }
}

/// Serves `link` until the process has to end. A process that was replaced ends quietly.
pub fn serve_requests(
    served: Served,
    server: &mut impl RequestServer,
    control: &Control,
) -> Result<(), Fault> {
    let Served {
        server: mut link,
        redo,
    } = served;
    control.watch(link.link());
    let outcome = serve(&mut link, &redo, server, control);
    match outcome {
        Err(Stop::Replaced) => Ok(()),
        Err(Stop::Fault(fault)) => {
            // What was published before is still owed to the guest.
            let _ = server.finish();
            Err(fault)
        }
        Ok(()) => {
            server.finish()?;
            settled(link.settle_published())
        }
    }
}

/// Why the loop cannot go on.
enum Stop {
    Replaced,
    Fault(Fault),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        match error {
            Error::Dead => Stop::Replaced,
            error => Stop::Fault(transport_fault(&error)),
        }
    }
}

/// At the very end a successor may be there already; then it settles.
fn settled(result: Result<(), Error>) -> Result<(), Fault> {
    match result {
        Ok(()) | Err(Error::Dead) => Ok(()),
        Err(error) => Err(transport_fault(&error)),
    }
}

fn serve(
    link: &mut LinkServer,
    redo: &[Request],
    server: &mut impl RequestServer,
    control: &Control,
) -> Result<(), Stop> {
    for request in redo {
        server.redo(link, request)?;
        link.link().beat();
    }
    let mut payload = Vec::new();
    while control.ending().is_none() {
        let quiet = (link.unsettled() != 0).then(|| Instant::now() + QUIET);
        match link.wait_request(quiet, || control.ending().is_some())? {
            Some(request) => {
                payload.clear();
                let answer = server.answer(link, &request, &mut payload)?;
                link.publish(&request, answer.status, answer.words, &payload)?;
                if link.must_settle() || server.is_settled() {
                    settle(link, server)?;
                }
            }
            None => settle(link, server)?,
        }
    }
    Ok(())
}

fn settle(link: &mut LinkServer, server: &mut impl RequestServer) -> Result<(), Stop> {
    server.settle()?;
    link.settle_published()?;
    link.link().beat();
    Ok(())
}
