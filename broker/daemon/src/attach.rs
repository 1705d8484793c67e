//! The attach message of each peer: its configuration, and of the machine's memory what it may see.

use atoll_abi::PeerId;
use atoll_abi::config::Config;
use atoll_abi::control::{Attach, Control, FileDesc, SegmentRole};
use atoll_transport::attach::Outgoing;
use atoll_transport::{Result, Session};
use broker_core::Plan;
use std::os::fd::{AsFd, BorrowedFd};

use crate::memory::Memory;

/// Hands the machine to its worker.
pub(crate) fn send_worker(
    session: &Session,
    peer: PeerId,
    plan: &Plan,
    memory: &Memory,
) -> Result<()> {
    let mut out = Outgoing::default();
    out.segment(SegmentRole::GuestRam, memory.ram.segment())?;
    out.segment(SegmentRole::Clock, memory.clock.segment())?;
    out.segment(SegmentRole::Routes, memory.routes.segment())?;
    out.segment(SegmentRole::Stats, memory.stats.segment())?;
    out.segment(SegmentRole::Bells, memory.bells.segment())?;
    for (link, plan) in memory.links.iter().zip(&plan.links) {
        out.link(plan.id, link)?;
    }
    for (number, bytes, segment) in &memory.blobs {
        out.blob(*number, *bytes, segment)?;
    }
    let mut config = plan.worker_config();
    for (link, memory) in config.links.iter_mut().zip(&memory.links) {
        link.generation = memory.generation();
    }
    send(session, peer, Config::Worker(config), out, Vec::new())
}

/// Hands its link to the back end at `place`: that and nothing else of the machine, least of all guest RAM.
pub(crate) fn send_server(
    session: &Session,
    peer: PeerId,
    place: usize,
    plan: &Plan,
    memory: &Memory,
) -> Result<()> {
    let mut out = Outgoing::default();
    let (link, server) = (&memory.links[place], &plan.links[place]);
    out.segment(SegmentRole::Bells, memory.bells.segment())?;
    out.link(server.id, link)?;
    let mut files = Vec::new();
    let mut file = |name: &str, fd| -> Result<()> {
        let fd = out.fd(fd)?;
        files.push(FileDesc {
            name: name.to_owned(),
            fd,
        });
        Ok(())
    };
    if server.wants_console {
        memory
            .console
            .iter()
            .try_for_each(|(name, fd)| file(name, fd.as_fd()))?;
    }
    if let Some((name, fd)) = &memory.ends[place].file {
        file(name, fd.as_fd())?;
    }
    send(session, peer, server.config.clone(), out, files)
}

fn send(
    session: &Session,
    peer: PeerId,
    config: Config,
    out: Outgoing<'_>,
    files: Vec<FileDesc>,
) -> Result<()> {
    let Outgoing { segments, fds } = out;
    let fds: Vec<BorrowedFd<'_>> = fds;
    session.send_with(
        &Control::Attach(Attach {
            peer,
            config,
            segments,
            files,
        }),
        &fds,
    )
}
