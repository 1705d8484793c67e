//! Control sessions: messages and descriptors, limits, hang-up, listeners, attach.

use atoll_abi::config::{CharConfig, CharKind, Config};
use atoll_abi::control::{Attach, Control, MAX_FDS, MAX_MESSAGE, SegmentRole};
use atoll_abi::link::{LinkGeometry, LinkKind};
use atoll_abi::{LinkId, PAGE, PeerId};
use atoll_transport::attach::{Incoming, Outgoing};
use atoll_transport::{Error, GuestRam, LinkMemory, Listener, Segment, Session};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

fn refused(reason: &str) -> Control {
    Control::Refused {
        reason: reason.to_owned(),
    }
}

#[test]
fn messages_keep_their_descriptors_and_their_order() {
    let (here, mut there) = Session::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    here.send(&refused("first")).unwrap();
    here.send_with(&Control::Ready, &[writer.as_fd(), writer.as_fd()])
        .unwrap();
    here.send(&Control::Start).unwrap();
    here.send_with(&Control::Stop { grace_ns: 9 }, &[writer.as_fd()])
        .unwrap();
    drop((writer, here));

    let mut next = || there.try_recv().unwrap().unwrap();
    assert_eq!(next().control, refused("first"));
    let ready = next();
    assert_eq!((ready.control, ready.fds.len()), (Control::Ready, 2));
    assert!(next().fds.is_empty());
    let stop = next();
    assert_eq!(
        (stop.control, stop.fds.len()),
        (Control::Stop { grace_ns: 9 }, 1)
    );
    drop(ready.fds);
    std::fs::File::from(stop.fds.into_iter().next().unwrap())
        .write_all(b"through")
        .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert!(matches!(there.try_recv(), Err(Error::HangUp)));
}

#[test]
fn a_message_larger_than_the_socket_crosses_and_one_too_large_does_not() {
    let (here, mut there) = Session::pair().unwrap();
    let large = refused(&"x".repeat(MAX_MESSAGE - 100));
    let sender = {
        let large = large.clone();
        std::thread::spawn(move || here.send(&large).map(|()| here))
    };
    let message = there
        .recv(Some(Instant::now() + Duration::from_secs(30)))
        .unwrap()
        .unwrap();
    assert_eq!(message.control, large);
    let here = sender.join().unwrap().unwrap();
    assert!(here.send(&refused(&"x".repeat(MAX_MESSAGE))).is_err());
    let fds = [here.as_fd(); MAX_FDS + 1];
    assert!(here.send_with(&Control::Ready, &fds).is_err());
    assert!(there.recv(Some(Instant::now())).unwrap().is_none());
}

#[test]
fn a_lying_header_is_refused_at_once() {
    for header in [
        [0xff; 8],
        [0, 0, 0, 0, 1, 0, 0, 0],
        [4, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let (mut peer, ours) = UnixStream::pair().unwrap();
        let mut session = Session::from_fd(ours.into());
        peer.write_all(&header).unwrap();
        peer.write_all(&[0xff; 4]).unwrap();
        assert!(session.try_recv().is_err());
    }
}

#[test]
fn peers_connect_by_path() {
    let dir = std::env::temp_dir().join(format!("atoll-session-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("broker.sock");
    let listener = Listener::bind(&path).unwrap();
    assert!(listener.try_accept().unwrap().is_none());
    let peer = Session::connect(&path).unwrap();
    let mut ours = listener.try_accept().unwrap().unwrap();
    assert_eq!(ours.peer_pid().unwrap(), std::process::id());
    peer.send(&Control::Ready).unwrap();
    assert_eq!(ours.recv(None).unwrap().unwrap().control, Control::Ready);
    drop(listener);
    assert!(!path.exists());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn attach_hands_over_segments_by_role() {
    let (here, mut there) = Session::pair().unwrap();
    let ram = GuestRam::create(16 * PAGE).unwrap();
    let bells = Segment::create("bells", PAGE).unwrap();
    let geometry = LinkGeometry::default_for(LinkKind::Char);
    let link = LinkMemory::create("link", LinkKind::Char, &geometry, 3).unwrap();
    let mut out = Outgoing::default();
    out.segment(SegmentRole::GuestRam, ram.segment()).unwrap();
    out.segment(SegmentRole::Bells, &bells).unwrap();
    out.link(LinkId(7), &link).unwrap();
    let kernel = Segment::from_bytes("kernel", &[3; 5000]).unwrap();
    out.blob(1, 5000, &kernel).unwrap();
    let config = Config::Char(CharConfig {
        kind: CharKind::Null,
        label: "tty".into(),
    });
    let peer = PeerId::new(2, 3);
    here.send_with(
        &Control::Attach(Attach {
            peer,
            config,
            segments: out.segments,
            files: vec![],
        }),
        &out.fds,
    )
    .unwrap();

    let message = there.recv(None).unwrap().unwrap();
    let Control::Attach(attach) = message.control else {
        panic!()
    };
    let mut incoming = Incoming::new(&attach, message.fds);
    let theirs = incoming.guest_ram().unwrap();
    theirs.write(5 * PAGE as u64, b"guest").unwrap();
    let mut seen = [0; 5];
    ram.read(5 * PAGE as u64, &mut seen).unwrap();
    assert_eq!(&seen, b"guest");
    let mut bytes = vec![0; 5000];
    let blob = incoming.blob(1).unwrap();
    blob.read(0, &mut bytes).unwrap();
    assert_eq!((blob.len(), bytes), (5000, vec![3; 5000]));
    let bell = incoming.worker_bell().unwrap();
    let links = incoming.links(Some(&bell)).unwrap();
    assert_eq!(
        (links.len(), links[0].0.link, links[0].1.generation()),
        (1, LinkId(7), 3)
    );
    assert!(
        incoming.guest_ram().is_err(),
        "each descriptor is taken once"
    );
    assert!(incoming.segment(SegmentRole::Clock).is_err());
}
