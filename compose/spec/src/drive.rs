//! `-drive` and `-blockdev`: from options to an image.
//!
//! QEMU's block graph is a tree of nodes; Atoll has two shapes of it, a raw file and a qcow2 file
//! whose backing files must have been allowed. Every spelling of those two is understood, and
//! anything else is refused by name.

use crate::machine::{CacheMode, Image, ImageFormat};
use crate::options::Options;
use crate::problem::{Origin, Problems};
use std::path::{Path, PathBuf};

/// What one `-drive` asks for.
#[derive(Clone, Debug)]
pub(crate) struct DriveRequest {
    pub(crate) origin: Origin,
    pub(crate) id: Option<String>,
    pub(crate) image: Image,
    pub(crate) serial: Option<String>,
    /// `if=virtio`: the drive brings its own device. `if=none`: a `-device` names it.
    pub(crate) with_device: bool,
    pub(crate) pci_slot: Option<u8>,
}

/// One `-blockdev`, not yet joined to its file node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    pub(crate) name: String,
    driver: Driver,
    /// The file itself for `driver=file`, or a format's own inline file node.
    path: Option<PathBuf>,
    /// The name of a format's file node.
    file: Option<String>,
    readonly: bool,
    direct: bool,
    no_flush: bool,
    discard: bool,
    backing: Vec<PathBuf>,
    /// The name of a backing node.
    backing_node: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    File,
    Format(ImageFormat),
}

const FORMATS: [(&str, ImageFormat); 2] =
    [("raw", ImageFormat::Raw), ("qcow2", ImageFormat::Qcow2)];
const DISCARD: [(&str, bool); 4] = [
    ("ignore", false),
    ("off", false),
    ("unmap", true),
    ("on", true),
];
/// Options that choose how QEMU itself does its I/O, or that ask for what Atoll does anyway.
const HARMLESS: [&str; 8] = [
    "aio",
    "index",
    "werror",
    "rerror",
    "detect-zeroes",
    "auto-read-only",
    "locking",
    "file.locking",
];

pub(crate) fn parse_drive(
    mut options: Options,
    base: &Path,
    problems: &mut Problems,
) -> Option<DriveRequest> {
    let origin = options.origin.clone();
    options.ignore(&HARMLESS);
    let file = options.take("file", problems);
    let file = file.or_else(|| options.take("file.filename", problems));
    let id = options.take("id", problems);
    let interfaces = [
        ("virtio", Some(true)),
        ("none", Some(false)),
        ("ide", None),
        ("scsi", None),
    ];
    let interface = options
        .take_word("if", &interfaces, problems)
        .unwrap_or(Some(true));
    if interface.is_none() {
        problems.add(&origin, "if: Atoll has virtio disks only; write if=virtio");
    }
    let media = options.take_word("media", &[("disk", true), ("cdrom", false)], problems);
    if media == Some(false) {
        problems.add(
            &origin,
            "media: Atoll has no CD-ROM; attach the image as a read-only disk",
        );
    }
    let named = options.take_word("format", &FORMATS, problems);
    let named = named.or_else(|| options.take_word("driver", &FORMATS, problems));
    let cache = take_cache(&mut options, problems);
    let readonly = take_readonly(&mut options, problems);
    let snapshot = options.take_bool("snapshot", problems).unwrap_or(false);
    let discard = options
        .take_word("discard", &DISCARD, problems)
        .unwrap_or(true);
    let serial = options.take("serial", problems);
    let pci_slot = take_slot(&mut options, problems);
    let (mut backing, words) = take_backing(&mut options, base, problems);
    // A -drive has no nodes to name, so a bare word is a path like any other.
    backing.extend(words.into_iter().map(|word| base.join(word)));
    options.finish(problems);
    let Some(file) = file else {
        problems.add(&origin, "a drive needs file=PATH");
        return None;
    };
    let path = base.join(&file);
    let format = named.unwrap_or_else(|| format_by_name(&path));
    let image = Image {
        path,
        format,
        format_named: named.is_some(),
        cache,
        readonly,
        snapshot,
        discard,
        backing,
    };
    Some(DriveRequest {
        origin,
        id,
        image,
        serial,
        with_device: interface.unwrap_or(true),
        pci_slot,
    })
}

/// Without a format, the name decides and never the content: a guest may write any header into a raw
/// disk, and must not choose by it what the next start opens.
fn format_by_name(path: &Path) -> ImageFormat {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("qcow2" | "qcow") => ImageFormat::Qcow2,
        _ => ImageFormat::Raw,
    }
}

/// The device number out of `addr=04`, `addr=0x4` or `addr=04.0`; PCI addresses are hexadecimal.
pub(crate) fn take_slot(options: &mut Options, problems: &mut Problems) -> Option<u8> {
    let origin = options.origin.clone();
    let text = options.take("addr", problems)?;
    let device = text.strip_suffix(".0").unwrap_or(&text);
    match u8::from_str_radix(device.trim_start_matches("0x"), 16) {
        Ok(slot) if (1..=31).contains(&slot) => Some(slot),
        _ => {
            problems.add(
                &origin,
                format!("addr: \"{text}\" is not a PCI device from 1 to 1f"),
            );
            None
        }
    }
}

fn take_readonly(options: &mut Options, problems: &mut Problems) -> bool {
    let new = options.take_bool("read-only", problems);
    let old = options.take_bool("readonly", problems);
    new.or(old).unwrap_or(false)
}

/// `cache=MODE`, or the three properties that it stands for.
fn take_cache(options: &mut Options, problems: &mut Problems) -> CacheMode {
    let modes = CacheMode::ALL.map(|mode| (mode.name(), mode));
    let mode = options
        .take_word("cache", &modes, problems)
        .unwrap_or_default();
    let (direct, no_flush) = take_cache_properties(options, problems);
    let write_back = options.take_bool("cache.writeback", problems);
    if direct.is_none() && no_flush.is_none() && write_back.is_none() {
        return mode;
    }
    let write_back = write_back.unwrap_or(mode.write_cache());
    let direct = direct.unwrap_or(mode.direct());
    let no_flush = no_flush.unwrap_or(mode == CacheMode::Unsafe);
    CacheMode::from_properties(write_back, direct, no_flush).unwrap_or_else(|| {
        problems.add(&options.origin, "cache: no cache mode has this combination");
        mode
    })
}

fn take_cache_properties(
    options: &mut Options,
    problems: &mut Problems,
) -> (Option<bool>, Option<bool>) {
    let direct = options.take_bool("cache.direct", problems);
    let no_flush = options.take_bool("cache.no-flush", problems);
    (direct, no_flush)
}

/// Backing files that may be opened: paths, and bare words, which for `-blockdev` may be nodes.
fn take_backing(
    options: &mut Options,
    base: &Path,
    problems: &mut Problems,
) -> (Vec<PathBuf>, Vec<String>) {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut words = Vec::new();
    for text in options.take_all("backing", problems) {
        match text.as_str() {
            "null" => {}
            name if name.contains(['/', '.']) => paths.push(base.join(name)),
            word => words.push(word.to_owned()),
        }
    }
    while options.has_prefix("backing.") {
        let mut inner = options.take_prefix("backing.");
        inner.ignore(&HARMLESS);
        inner.take_word(
            "driver",
            &[("qcow2", ()), ("raw", ()), ("file", ())],
            problems,
        );
        inner.take_word("file.driver", &[("file", ())], problems);
        let file = inner.take("file.filename", problems);
        paths.extend(
            file.or_else(|| inner.take("filename", problems))
                .map(|f| base.join(f)),
        );
        let (deeper, names) = take_backing(&mut inner, base, problems);
        paths.extend(deeper);
        words.extend(names);
        inner.finish(problems);
    }
    (paths, words)
}

pub(crate) fn parse_blockdev(
    mut options: Options,
    base: &Path,
    problems: &mut Problems,
) -> Option<Node> {
    let origin = options.origin.clone();
    options.ignore(&HARMLESS);
    let drivers = [
        ("file", Driver::File),
        ("raw", Driver::Format(ImageFormat::Raw)),
        ("qcow2", Driver::Format(ImageFormat::Qcow2)),
    ];
    let driver = options.take_word("driver", &drivers, problems);
    let name = options.take("node-name", problems);
    let readonly = take_readonly(&mut options, problems);
    let (direct, no_flush) = take_cache_properties(&mut options, problems);
    let discard = options.take_word("discard", &DISCARD, problems);
    let path = options
        .take("filename", problems)
        .map(|name| base.join(name));
    let file = options.take("file", problems);
    let mut inner = options.take_prefix("file.");
    inner.ignore(&HARMLESS);
    inner.take_word("driver", &[("file", ())], problems);
    let inner_path = inner.take("filename", problems).map(|name| base.join(name));
    let (inner_direct, inner_no_flush) = take_cache_properties(&mut inner, problems);
    inner.take_word("discard", &DISCARD, problems);
    inner.take_bool("read-only", problems);
    inner.finish(problems);
    let (backing, words) = take_backing(&mut options, base, problems);
    // A bare word is a node if one has that name; the draft looks, and else it is a path.
    let backing_node = words.into_iter().next();
    options.finish(problems);
    let (Some(driver), Some(name)) = (driver, name) else {
        problems.add(
            &origin,
            "a block device needs driver=raw|qcow2|file and node-name=NAME",
        );
        return None;
    };
    Some(Node {
        origin,
        name,
        driver,
        path: path.or(inner_path),
        file,
        readonly,
        direct: direct.or(inner_direct).unwrap_or(false),
        no_flush: no_flush.or(inner_no_flush).unwrap_or(false),
        discard: discard.unwrap_or(true),
        backing,
        backing_node,
    })
}

/// The image that a node stands for, found through the nodes that it names.
pub(crate) fn image_of_node(
    nodes: &[Node],
    name: &str,
    write_cache: bool,
    problems: &mut Problems,
) -> Option<Image> {
    let node = nodes.iter().find(|node| node.name == name)?;
    let format = match node.driver {
        Driver::File => ImageFormat::Raw,
        Driver::Format(format) => format,
    };
    let below = node
        .file
        .as_deref()
        .map(|file| file_node(nodes, node, file, problems));
    let (below_path, below_node) = match below {
        Some(Some(file)) => (file.path.clone(), Some(file)),
        Some(None) => return None,
        None => (None, None),
    };
    let Some(path) = node.path.clone().or(below_path) else {
        problems.add(
            &node.origin,
            "names no file: file.filename=PATH or file=NODE",
        );
        return None;
    };
    let direct = node.direct || below_node.is_some_and(|file| file.direct);
    let no_flush = node.no_flush || below_node.is_some_and(|file| file.no_flush);
    let cache = CacheMode::from_properties(write_cache, direct, no_flush).unwrap_or_else(|| {
        problems.add(
            &node.origin,
            "no cache mode has this combination of cache.* and write-cache",
        );
        CacheMode::default()
    });
    Some(Image {
        path,
        format,
        format_named: true,
        cache,
        readonly: node.readonly,
        snapshot: false,
        discard: node.discard,
        backing: backing_of(nodes, node),
    })
}

fn file_node<'a>(
    nodes: &'a [Node],
    node: &Node,
    file: &str,
    problems: &mut Problems,
) -> Option<&'a Node> {
    let found = nodes.iter().find(|other| other.name == file);
    match found {
        None => problems.unknown(
            &node.origin,
            "node",
            file,
            nodes.iter().map(|n| n.name.as_str()),
        ),
        Some(other) if other.driver != Driver::File => {
            problems.add(
                &node.origin,
                format!("file: node \"{file}\" is not of driver=file"),
            );
        }
        Some(_) => {}
    }
    found.filter(|other| other.driver == Driver::File)
}

/// All backing files below a node. The walk is bounded by the number of nodes, so a ring ends.
fn backing_of(nodes: &[Node], node: &Node) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut next = Some(node);
    for _ in 0..=nodes.len() {
        let Some(node) = next else { break };
        paths.extend(node.backing.iter().cloned());
        let find = |name: &str| nodes.iter().find(|other| other.name == name);
        next = node.backing_node.as_deref().and_then(find);
        if let Some(backing) = next {
            let file = backing.file.as_deref().and_then(find);
            let path = backing
                .path
                .as_ref()
                .or_else(|| file.and_then(|f| f.path.as_ref()));
            paths.extend(path.cloned());
        } else if let Some(word) = &node.backing_node {
            paths.push(PathBuf::from(word));
        }
    }
    paths
}
