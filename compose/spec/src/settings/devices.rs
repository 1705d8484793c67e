//! What hangs on the board, and what stands behind it.

use super::{DEVICES, NO_DISPLAY, NO_MONITOR, NO_NETWORK};
use crate::chardev::{parse_chardev, parse_serial};
use crate::draft::{DeviceRequest, Draft, FrontRequest};
use crate::drive::{parse_blockdev, parse_drive, take_slot};
use crate::options::Options;
use crate::problem::Origin;

pub(super) fn drive(draft: &mut Draft, options: Options) {
    let Some(request) = parse_drive(options, &draft.base.clone(), &mut draft.problems) else {
        return;
    };
    if request.with_device {
        draft.fronts.push(FrontRequest::OfDrive(draft.drives.len()));
    }
    draft.drives.push(request);
}

pub(super) fn blockdev(draft: &mut Draft, options: Options) {
    let node = parse_blockdev(options, &draft.base.clone(), &mut draft.problems);
    if let Some(node) = node {
        if draft.nodes.iter().any(|other| other.name == node.name) {
            let message = format!("the node name \"{}\" is used twice", node.name);
            draft.problems.add(&node.origin, message);
        }
        draft.nodes.push(node);
    }
}

pub(super) fn device(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    let kind = options
        .take("driver", &mut draft.problems)
        .unwrap_or_default();
    match kind.as_str() {
        "virtio-blk-pci" | "virtio-blk" | "virtio-blk-pci-non-transitional" => {
            block_device(draft, options);
        }
        "isa-serial" => serial_device(draft, options),
        "virtio-net-pci" | "virtio-net" | "e1000" | "rtl8139" => {
            draft.problems.add(&origin, format!("{kind}: {NO_NETWORK}"));
        }
        other => {
            let names = DEVICES.map(|(name, _)| name);
            draft.problems.unknown(&origin, "device", other, names);
        }
    }
}

fn block_device(draft: &mut Draft, mut options: Options) {
    let problems = &mut draft.problems;
    let origin = options.origin.clone();
    options.ignore(&[
        "bus",
        "bootindex",
        "num-queues",
        "queue-size",
        "disable-legacy",
        "disable-modern",
        "werror",
        "rerror",
        "scsi",
        "config-wce",
        "write-zeroes",
    ]);
    let drive = options.take("drive", problems);
    let request = DeviceRequest {
        id: options.take("id", problems),
        serial: options.take("serial", problems),
        pci_slot: take_slot(&mut options, problems),
        write_cache: options.take_bool("write-cache", problems),
        discard: options.take_bool("discard", problems),
        drive: drive.clone().unwrap_or_default(),
        origin: origin.clone(),
    };
    if drive.is_none() {
        problems.add(&origin, "virtio-blk-pci needs drive=ID");
    } else {
        draft.fronts.push(FrontRequest::Device(request));
    }
    options.finish(problems);
}

fn serial_device(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.ignore(&["id", "index", "iobase", "irq"]);
    match options.take("chardev", &mut draft.problems) {
        Some(id) => draft
            .serials
            .push((origin, crate::chardev::SerialRequest::Named(id))),
        None => draft.problems.add(&origin, "isa-serial needs chardev=ID"),
    }
    options.finish(&mut draft.problems);
}

pub(super) fn chardev(draft: &mut Draft, options: Options) {
    let origin = options.origin.clone();
    let chardev = parse_chardev(options, &draft.base.clone(), &mut draft.problems);
    draft
        .chardevs
        .extend(chardev.map(|chardev| (origin, chardev)));
}

pub(super) fn serial(draft: &mut Draft, origin: &Origin, text: &str) {
    let request = parse_serial(text, &draft.base.clone(), origin, &mut draft.problems);
    draft
        .serials
        .extend(request.map(|request| (origin.clone(), request)));
}

pub(super) fn display(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_DISPLAY}"));
    }
}

pub(super) fn monitor(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" && text != "null" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_MONITOR}"));
    }
}

pub(super) fn parallel(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        let message = format!("\"{text}\": Atoll has no parallel port");
        draft.problems.add(origin, message);
    }
}

pub(super) fn network(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_NETWORK}"));
    }
}
