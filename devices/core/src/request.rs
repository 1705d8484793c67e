//! What a model asks of its back end.
//!
//! A request is generic over its payload: a slice where it is read, a [`Span`](crate::Span) of the effect buffer where it
//! is stored. Sectors are of 512 bytes, whatever the medium's own block size is.

use serde::{Deserialize, Serialize};

/// A request to a block back end. Offsets and lengths are within the medium: the model has checked them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlockRequest<B> {
    /// `len` is a multiple of 512.
    Read {
        sector: u64,
        len: u32,
    },
    /// With `fua` the reply says that the data is on stable storage.
    Write {
        sector: u64,
        data: B,
        fua: bool,
    },
    /// Everything written whose reply was published before this request was issued is stable once it is answered.
    Flush,
    Discard {
        sector: u64,
        sectors: u32,
    },
    /// With `unmap` the back end may deallocate the range; it reads as zeroes either way.
    WriteZeroes {
        sector: u64,
        sectors: u32,
        unmap: bool,
        fua: bool,
    },
}

/// A request to a back end of any kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request<B> {
    Block(BlockRequest<B>),
    /// Bytes for the other end of a character device; posted, never answered.
    CharOut(B),
    /// A frame for the network; its reply carries the frames that the network itself answers.
    Frame(B),
}

impl<B> BlockRequest<B> {
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> BlockRequest<C> {
        match self {
            BlockRequest::Read { sector, len } => BlockRequest::Read { sector, len },
            BlockRequest::Write { sector, data, fua } => BlockRequest::Write {
                sector,
                data: f(data),
                fua,
            },
            BlockRequest::Flush => BlockRequest::Flush,
            BlockRequest::Discard { sector, sectors } => BlockRequest::Discard { sector, sectors },
            BlockRequest::WriteZeroes {
                sector,
                sectors,
                unmap,
                fua,
            } => BlockRequest::WriteZeroes {
                sector,
                sectors,
                unmap,
                fua,
            },
        }
    }
}

impl<B> Request<B> {
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> Request<C> {
        match self {
            Request::Block(request) => Request::Block(request.map(f)),
            Request::CharOut(bytes) => Request::CharOut(f(bytes)),
            Request::Frame(bytes) => Request::Frame(f(bytes)),
        }
    }
}
