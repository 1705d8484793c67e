//! The disk as a device process: opened once, then asked request by request.

use atoll_abi::Status;
use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest};
use atoll_abi::config::Config;
use atoll_abi::link::LinkKind;
use atoll_transport::{LinkServer, Request};
use block_backend::{Disk, Error, Kind, open};
use device_sdk::sandbox::Policy;
use device_sdk::{
    Answer, Attachment, Control, Device, Fault, FaultKind, LogLevel, RequestServer, Role, Served,
    fault, serve_requests, transport_fault,
};

use crate::config::{OVERLAY, describe, to_backend, to_fault, to_status, to_wire};

/// Failures that are written to the log; a broken disk fails every request.
const MOST_COMPLAINTS: u32 = 20;

/// A disk that is open, and the link on which it is asked for.
pub(crate) struct BlockDevice {
    disk: Disk,
    label: String,
    served: Served,
}

impl Device for BlockDevice {
    const BINARY: &'static str = "blockd";
    const ROLE: Role = Role::Block;

    fn open(attachment: &mut Attachment) -> Result<Self, Fault> {
        let overlay = attachment.take_file(OVERLAY);
        let Config::Block(config) = &attachment.config else {
            return Err(fault(
                FaultKind::Protocol,
                "the broker sent no disk to serve",
            ));
        };
        let label = config.label.clone();
        let disk = open(to_backend(config, overlay)).map_err(|error| to_fault(&error))?;
        Ok(BlockDevice {
            disk,
            label,
            served: attachment.serve(LinkKind::Block)?,
        })
    }

    fn policy(&self) -> Policy {
        Policy::common()
            .call(libc::SYS_preadv, "images are read")
            .call(libc::SYS_pwritev, "images are written")
            .call(libc::SYS_fallocate, "discards and zeroes free space")
            .call(libc::SYS_ftruncate, "an image grows by zeroes")
            .call(libc::SYS_fsync, "flushes reach the disk")
            .call(libc::SYS_fdatasync, "flushes reach the disk")
    }

    fn serve(self, control: &Control) -> Result<(), Fault> {
        let BlockDevice {
            disk,
            label,
            served,
        } = self;
        let mut server = DiskServer {
            disk,
            label,
            control: control.clone(),
            data: Vec::new(),
            complaints: 0,
        };
        serve_requests(served, &mut server, control)
    }
}

/// Answers block requests.
struct DiskServer {
    disk: Disk,
    label: String,
    control: Control,
    /// The payload of the write at hand.
    data: Vec<u8>,
    complaints: u32,
}

impl RequestServer for DiskServer {
    fn redo(&mut self, link: &LinkServer, request: &Request) -> Result<(), Fault> {
        let asked = decode(request)?;
        match asked.op {
            BlockOp::Read | BlockOp::GetInfo => Ok(()),
            // The outcome was published by the predecessor; only a host that fails now matters.
            _ => self
                .apply(link, request, &asked, &mut Vec::new())
                .map(|_| ()),
        }
    }

    fn answer(
        &mut self,
        link: &LinkServer,
        request: &Request,
        payload: &mut Vec<u8>,
    ) -> Result<Answer, Fault> {
        let asked = decode(request)?;
        if asked.op == BlockOp::GetInfo {
            return Ok(Answer {
                status: Status::Ok,
                words: to_wire(self.disk.info()).to_words(),
            });
        }
        self.apply(link, request, &asked, payload).map(Answer::from)
    }

    fn settle(&mut self) -> Result<(), Fault> {
        self.disk.settle().map_err(|error| to_fault(&error))
    }

    fn is_settled(&self) -> bool {
        self.disk.is_settled()
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.disk.flush().map_err(|error| to_fault(&error))
    }
}

impl DiskServer {
    /// Does a request on the disk and says how it ended.
    fn apply(
        &mut self,
        link: &LinkServer,
        request: &Request,
        asked: &BlockRequest,
        payload: &mut Vec<u8>,
    ) -> Result<Status, Fault> {
        let BlockRequest {
            op,
            flags,
            offset_bytes: offset,
            len_bytes: length,
        } = *asked;
        let done = match op {
            BlockOp::Read => {
                payload.resize(length as usize, 0);
                self.disk.read(offset, payload)
            }
            BlockOp::Write => {
                self.data.resize(length as usize, 0);
                link.read_payload(request, 0, &mut self.data)
                    .map_err(|error| transport_fault(&error))?;
                self.disk
                    .write(offset, &self.data, flags.contains(BlockFlags::FUA))
            }
            BlockOp::Flush => self.disk.flush(),
            BlockOp::Discard => self.disk.discard(offset, length),
            BlockOp::WriteZeroes => {
                self.disk
                    .write_zeroes(offset, length, flags.contains(BlockFlags::UNMAP))
            }
            BlockOp::GetInfo => Ok(()),
        };
        match done {
            Ok(()) => Ok(Status::Ok),
            Err(error) => {
                payload.clear();
                self.failed(&error)
            }
        }
    }

    /// What becomes of a request that failed. A full disk is no answer: room can be made for it.
    fn failed(&mut self, error: &Error) -> Result<Status, Fault> {
        if error.kind() == Kind::NoSpace {
            return Err(to_fault(error));
        }
        self.complaints += 1;
        if self.complaints <= MOST_COMPLAINTS {
            let text = format!("disk {}: {}", self.label, describe(error));
            self.control.log(LogLevel::Error, text);
        }
        Ok(to_status(error.kind()))
    }
}

/// The worker's models write requests; one that makes no sense is a worker gone wrong.
fn decode(request: &Request) -> Result<BlockRequest, Fault> {
    BlockRequest::decode(&request.slot).map_err(|error| {
        fault(
            FaultKind::Protocol,
            format!("request {}: {error}", request.seq),
        )
    })
}
