//! The owner's request, checked and opened.

use atoll_abi::control::{RunRequest, SegmentDesc, SegmentRole, SegmentSource};
use atoll_transport::Segment;
use machine_spec::{Machine, Resolved};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The file that stays with the broker.
const TERMINAL: &str = "terminal";

/// A machine to run, with what came along.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) machine: Machine,
    pub(crate) resolved: Resolved,
    /// By number: the segment and how many of its bytes count.
    pub(crate) blobs: Vec<(u16, usize, Arc<Segment>)>,
    /// For the process that serves the owner's standard input and output, and for its successors.
    pub(crate) console: Vec<(String, OwnedFd)>,
    pub(crate) terminal: Option<OwnedFd>,
}

impl Request {
    /// Opens what the owner handed over. The error is for him.
    pub(crate) fn open(request: RunRequest, fds: Vec<OwnedFd>) -> Result<Self, String> {
        let mut fds: Vec<Option<OwnedFd>> = fds.into_iter().map(Some).collect();
        let mut take = |index: u8| {
            let fd = fds.get_mut(usize::from(index)).and_then(Option::take);
            fd.ok_or_else(|| format!("descriptor {index} of the request did not come"))
        };
        let blobs = request
            .segments
            .iter()
            .map(|desc| blob(desc, &mut take))
            .collect::<Result<_, _>>()?;
        let mut console = Vec::new();
        let mut terminal = None;
        for file in request.files {
            let fd = take(file.fd)?;
            match file.name.as_str() {
                TERMINAL => terminal = Some(fd),
                _ => console.push((file.name, fd)),
            }
        }
        let machine = Machine::from_bytes(&request.machine)
            .map_err(|error| format!("the machine does not decode: {error}"))?;
        let resolved = Resolved::from_bytes(&request.resolved)
            .map_err(|error| format!("the machine does not decode: {error}"))?;
        Ok(Self {
            machine,
            resolved,
            blobs,
            console,
            terminal,
        })
    }
}

fn blob(
    desc: &SegmentDesc,
    take: &mut impl FnMut(u8) -> Result<OwnedFd, String>,
) -> Result<(u16, usize, Arc<Segment>), String> {
    let SegmentRole::Blob(number) = desc.role else {
        return Err(format!("a request has no {:?} segment", desc.role));
    };
    let bytes = usize::try_from(desc.len).map_err(|_| "a blob is longer than memory".to_owned())?;
    let whole = bytes
        .max(1)
        .checked_next_multiple_of(atoll_abi::PAGE)
        .ok_or("a blob is longer than memory")?;
    let segment = match &desc.source {
        SegmentSource::Fd(index) => Segment::from_fd(take(*index)?, whole),
        SegmentSource::Named(name) => Segment::open_named(name, whole),
    };
    Ok((
        number,
        bytes,
        segment.map_err(|error| format!("blob {number}: {error}"))?,
    ))
}
