//! Control sessions: messages with file descriptors over a Unix stream socket.
//!
//! A frame is a little-endian u32 length, a u32 count of descriptors, and that many bytes of postcard. Descriptors ride
//! with the frame's first byte, and the kernel keeps their order, so by the time a frame is complete its descriptors
//! have arrived. Receiving never blocks unless asked to; a peer that does not read is an error after a bounded wait; a
//! peer that hung up is an error value.

use crate::{Error, Result};
use atoll_abi::control::{Control, MAX_FDS, MAX_MESSAGE};
use interprocess::local_socket::traits::{Listener as _, Stream as _};
use interprocess::local_socket::{
    self, GenericFilePath, ListenerNonblockingMode, ListenerOptions, ToFsName,
};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const HEADER: usize = 8;
/// How long a peer may leave its socket full.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// One control message and what came with it.
#[derive(Debug)]
pub struct Message {
    pub control: Control,
    pub fds: Vec<OwnedFd>,
}

/// One end of a control connection.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    /// Held while a frame is written, so that frames of several threads do not mix.
    turn: Arc<Mutex<()>>,
    inbox: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Session {
    /// Two connected ends, one of them for a child to inherit.
    pub fn pair() -> Result<(Self, Self)> {
        let (a, b) = UnixStream::pair().map_err(Error::os("socketpair"))?;
        Ok((Self::from_fd(a.into()), Self::from_fd(b.into())))
    }

    /// A connected Unix stream socket, such as one that was inherited.
    pub fn from_fd(socket: OwnedFd) -> Self {
        Self {
            socket,
            turn: Arc::default(),
            inbox: Vec::new(),
            fds: VecDeque::new(),
        }
    }

    /// Connects to a listener's path.
    pub fn connect(path: &Path) -> Result<Self> {
        let name = path
            .to_fs_name::<GenericFilePath>()
            .map_err(Error::os("socket path"))?;
        let stream = local_socket::Stream::connect(name).map_err(Error::os("connect"))?;
        Ok(Self::from_fd(stream_fd(stream)))
    }

    /// The descriptor to hand to a child, giving up this end.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }

    /// The process at the other end, as the kernel knows it.
    pub fn peer_pid(&self) -> Result<u32> {
        let credentials = rustix::net::sockopt::socket_peercred(&self.socket)
            .map_err(Error::os("SO_PEERCRED"))?;
        Ok(credentials.pid.as_raw_nonzero().get() as u32)
    }

    /// Sends a message with descriptors. Waits a bounded time if the socket is full.
    pub fn send_with(&self, control: &Control, fds: &[BorrowedFd<'_>]) -> Result<()> {
        send(&self.socket, &self.turn, control, fds)
    }

    /// Sends a message without descriptors.
    pub fn send(&self, control: &Control) -> Result<()> {
        self.send_with(control, &[])
    }

    /// A second handle for other threads to send with, while this one receives.
    pub fn sender(&self) -> Result<SessionSender> {
        let socket = self.socket.try_clone().map_err(Error::os("dup"))?;
        Ok(SessionSender {
            socket: Arc::new(socket),
            turn: self.turn.clone(),
        })
    }

    /// The next message if one is complete; never blocks. `HangUp` comes only after everything sent was received.
    pub fn try_recv(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.next_frame()? {
                return Ok(Some(message));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// The next message, or `None` at the deadline.
    pub fn recv(&mut self, deadline: Option<Instant>) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.try_recv()? {
                return Ok(Some(message));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !poll(&self.socket, PollFlags::IN, left)? && left.is_some_and(|left| left.is_zero())
            {
                return Ok(None);
            }
        }
    }

    /// Reads what is there. `false` if nothing was.
    fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0; 16 << 10];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(&mut chunk)],
                &mut ancillary,
                flags,
            ) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::CONNRESET) => return Err(Error::HangUp),
                Err(errno) => return Err(Error::os("recvmsg")(errno)),
            }
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if received.flags.contains(rustix::net::ReturnFlags::CTRUNC) || self.fds.len() > 2 * MAX_FDS
        {
            return Err(Error::Protocol("too many file descriptors"));
        }
        if received.bytes == 0 {
            return Err(Error::HangUp);
        }
        self.inbox.extend_from_slice(&chunk[..received.bytes]);
        Ok(true)
    }

    fn next_frame(&mut self) -> Result<Option<Message>> {
        let Some(frame) = Frame::parse(&self.inbox)? else {
            return Ok(None);
        };
        let (control, rest) = postcard::take_from_bytes(&self.inbox[HEADER..frame.end])?;
        if !rest.is_empty() {
            return Err(Error::Protocol(
                "control message is longer than its content",
            ));
        }
        if self.fds.len() < frame.fds {
            return Err(Error::Protocol("file descriptors are missing"));
        }
        self.inbox.drain(..frame.end);
        Ok(Some(Message {
            control,
            fds: self.fds.drain(..frame.fds).collect(),
        }))
    }
}

/// Sends on a session from any thread.
#[derive(Clone, Debug)]
pub struct SessionSender {
    socket: Arc<OwnedFd>,
    turn: Arc<Mutex<()>>,
}

impl SessionSender {
    /// Sends a message without descriptors. Waits a bounded time if the socket is full.
    pub fn send(&self, control: &Control) -> Result<()> {
        send(&self.socket, &self.turn, control, &[])
    }
}

fn send(
    socket: &OwnedFd,
    turn: &Mutex<()>,
    control: &Control,
    fds: &[BorrowedFd<'_>],
) -> Result<()> {
    let frame = encode(control, fds.len())?;
    let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sent = 0;
    while sent < frame.len() {
        let fds = if sent == 0 { fds } else { &[] };
        match send_some(socket, &frame[sent..], fds) {
            Ok(count) => sent += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if poll(socket, PollFlags::OUT, Some(SEND_PATIENCE))? => {}
            Err(Errno::AGAIN) => return Err(Error::Stuck),
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(Error::HangUp),
            Err(errno) => return Err(Error::os("sendmsg")(errno)),
        }
    }
    Ok(())
}

fn send_some(socket: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::INVAL);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The frame at the start of a buffer.
#[derive(Debug)]
struct Frame {
    end: usize,
    fds: usize,
}

impl Frame {
    /// `None` while it is incomplete. Lengths are judged as soon as they are there, before anything is buffered.
    fn parse(buffer: &[u8]) -> Result<Option<Self>> {
        let word = |at: usize| {
            buffer
                .get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_le_bytes)
        };
        let (Some(len), Some(fds)) = (word(0), word(4)) else {
            return Ok(None);
        };
        let (len, fds) = (len as usize, fds as usize);
        if len > MAX_MESSAGE || fds > MAX_FDS {
            return Err(Error::Protocol("control message is too long"));
        }
        Ok((buffer.len() >= HEADER + len).then_some(Self {
            end: HEADER + len,
            fds,
        }))
    }
}

fn encode(control: &Control, fds: usize) -> Result<Vec<u8>> {
    let mut frame = vec![0; HEADER];
    frame = postcard::to_extend(control, frame)?;
    let len = frame.len() - HEADER;
    if len > MAX_MESSAGE || fds > MAX_FDS {
        return Err(Error::Protocol("control message is too long"));
    }
    frame[..4].copy_from_slice(&(len as u32).to_le_bytes());
    frame[4..8].copy_from_slice(&(fds as u32).to_le_bytes());
    Ok(frame)
}

fn poll(socket: &OwnedFd, events: PollFlags, timeout: Option<Duration>) -> Result<bool> {
    let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
    match rustix::event::poll(&mut [PollFd::new(socket, events)], timeout.as_ref()) {
        Ok(ready) => Ok(ready != 0),
        Err(Errno::INTR) => Ok(false),
        Err(errno) => Err(Error::os("poll")(errno)),
    }
}

fn stream_fd(stream: local_socket::Stream) -> OwnedFd {
    match stream {
        local_socket::Stream::UdSocket(stream) => stream.into(),
    }
}

/// A path on which peers may connect that the broker did not start itself. Dropping it removes the path.
#[derive(Debug)]
pub struct Listener {
    listener: local_socket::Listener,
}

impl Listener {
    pub fn bind(path: &Path) -> Result<Self> {
        let name = path
            .to_fs_name::<GenericFilePath>()
            .map_err(Error::os("socket path"))?;
        let options = ListenerOptions::new()
            .name(name)
            .nonblocking(ListenerNonblockingMode::Accept);
        Ok(Self {
            listener: options.create_sync().map_err(Error::os("bind"))?,
        })
    }

    /// The next connection, if somebody knocked; never blocks.
    pub fn try_accept(&self) -> Result<Option<Session>> {
        match self.listener.accept() {
            Ok(stream) => Ok(Some(Session::from_fd(stream_fd(stream)))),
            Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(err) => Err(Error::os("accept")(err)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.listener {
            local_socket::Listener::UdSocket(listener) => listener.as_fd(),
        }
    }
}
