//! Measures a link's round trip between two processes: `cargo run --release -p atoll-transport --example latency`.
//!
//! *hot*: requests back to back, so both sides mostly find work while they spin. *idle*: a pause before each request,
//! so the server sleeps and the request has to wake it.

use atoll_abi::block::{BlockFlags, BlockOp, BlockRequest};
use atoll_abi::config::{CharConfig, CharKind, Config};
use atoll_abi::control::{Attach, Control};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::{LinkId, PeerId, Status, VirtualTime};
use atoll_transport::attach::{Incoming, Outgoing};
use atoll_transport::process::{inherit, take_inherited};
use atoll_transport::{LinkClient, LinkMemory, LinkServer, Result, Session, Waiter};
use std::process::Command;
use std::time::{Duration, Instant};

const HOT: usize = 100_000;
const IDLE: usize = 300;
const PAUSE: Duration = Duration::from_millis(2);

fn main() -> Result<()> {
    match std::env::args().nth(1) {
        Some(fd) => serve(Session::from_fd(take_inherited(fd.parse().unwrap_or(-1))?)),
        None => measure(),
    }
}

/// The child: answers everything at once until the parent hangs up.
fn serve(mut session: Session) -> Result<()> {
    let Some(message) = session.recv(None)? else {
        return Ok(());
    };
    let Control::Attach(attach) = message.control else {
        return Ok(());
    };
    let (desc, link) = Incoming::new(&attach, message.fds).links(None)?.remove(0);
    let (mut server, _) = LinkServer::attach(link, desc.generation)?;
    let done = (HOT + IDLE) as u64;
    while server.published_below() < done {
        let deadline = Instant::now() + Duration::from_secs(1);
        match server.wait_request(Some(deadline), || false)? {
            Some(request) => server.publish(&request, Status::Ok, [0; 3], &[])?,
            None => drop(session.try_recv()?),
        }
        if server.must_settle() {
            server.settle_published()?;
        }
    }
    Ok(())
}

/// Starts the child with a fresh link, measures, and waits for the child's end.
fn measure() -> Result<()> {
    let geometry = LinkGeometry::default_for(LinkKind::Block);
    let link = LinkMemory::create("latency", LinkKind::Block, &geometry, 1)?;
    let (session, child_end) = Session::pair()?;
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let fds = inherit(&mut command, vec![child_end.into_fd()]);
    let mut child = command
        .arg(fds[0].to_string())
        .spawn()
        .expect("the child starts");
    let measured = attach(&session, &link).and_then(|()| round_trips(&link));
    drop(session);
    child.wait().expect("the child ends");
    measured
}

fn attach(session: &Session, link: &LinkMemory) -> Result<()> {
    let mut out = Outgoing::default();
    out.link(LinkId(0), link)?;
    let config = Config::Char(CharConfig {
        kind: CharKind::Null,
        label: String::new(),
    });
    let attach = Attach {
        peer: PeerId::new(1, 1),
        config,
        segments: out.segments,
        files: vec![],
    };
    session.send_with(&Control::Attach(attach), &out.fds)
}

fn round_trips(link: &LinkMemory) -> Result<()> {
    let mut client = LinkClient::new(link.clone())?;
    let mut waiter = link.client_bell().waiter();
    let hot = (0..HOT)
        .map(|_| round_trip(&mut client, &mut waiter))
        .collect::<Result<_>>()?;
    report("hot", hot);
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        std::thread::sleep(PAUSE);
        idle.push(round_trip(&mut client, &mut waiter)?);
    }
    report("idle", idle);
    println!(
        "wakes: server {}, client {}",
        link.server_bell().wakes(),
        link.client_bell().wakes()
    );
    Ok(())
}

fn round_trip(client: &mut LinkClient, waiter: &mut Waiter) -> Result<Duration> {
    let flush = BlockRequest {
        op: BlockOp::Flush,
        flags: BlockFlags::empty(),
        offset_bytes: 0,
        len_bytes: 0,
    };
    let start = Instant::now();
    let seq = client
        .submit(VirtualTime::ZERO, flush.encode(), &[], 0)
        .expect("an empty link has room");
    client.wait_reply(waiter, seq, None)?;
    let took = start.elapsed();
    client.release(seq)?;
    Ok(took)
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at =
        |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1000.0;
    println!(
        "{name}: median {:.2} us, p90 {:.2} us, p99 {:.2} us",
        at(0.5),
        at(0.9),
        at(0.99)
    );
}
