//! What can go wrong between two processes.

use atoll_abi::WireError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer wrote something that makes no sense. Fault it.
    #[error("peer broke the protocol: {0}")]
    Wire(#[from] WireError),
    /// The same, where no field is to blame.
    #[error("peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// A control message that does not decode.
    #[error("control message does not decode: {0}")]
    Message(#[from] postcard::Error),
    /// This server's generation is over; a successor has the link.
    #[error("this process was replaced on its link")]
    Dead,
    /// The other end closed the session, or died.
    #[error("the other end hung up")]
    HangUp,
    /// The other end does not read what it is sent.
    #[error("the other end does not read its messages")]
    Stuck,
    /// The range lies outside the segment.
    #[error("range {offset:#x}+{len:#x} leaves a segment of {limit:#x} bytes")]
    OutOfRange { offset: u64, len: u64, limit: u64 },
    /// A segment is smaller than announced, or can still be resized by somebody.
    #[error("segment is not acceptable: {0}")]
    Segment(String),
    /// The operating system said no.
    #[error("{what}: {source}")]
    Os {
        what: &'static str,
        source: std::io::Error,
    },
}

#[cfg(not(loom))]
impl Error {
    /// For `map_err`: which call failed.
    pub(crate) fn os<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Os {
            what,
            source: source.into(),
        }
    }
}
