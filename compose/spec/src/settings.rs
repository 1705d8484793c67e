//! The table of settings: each with its flag, its key in the machine file, its help and its effect.
//!
//! A machine file is the flags written down: one row serves both, so that neither can do what the
//! other cannot.

use crate::chardev::{parse_chardev, parse_serial};
use crate::cpu::{self, CpuModel};
use crate::draft::{DeviceRequest, Draft, FrontRequest};
use crate::drive::{parse_blockdev, parse_drive, take_slot};
use crate::machine::{Cpu, CpuFeature, DebugItem, Engine, Initrd, PolicyChoice, RtcBase, Seed};
use crate::options::Options;
use crate::problem::Origin;
use crate::units;

/// One row.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// The key in a machine file, and the flag without its dashes.
    pub name: &'static str,
    /// Another spelling of the flag, such as `m` of `memory`.
    pub short: &'static str,
    /// What its value is called in the help; empty for a switch.
    pub argument: &'static str,
    pub help: &'static str,
    pub(crate) kind: Kind,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setting")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// One text.
    Text(fn(&mut Draft, &Origin, &str)),
    /// On, or off in a machine file.
    Switch(fn(&mut Draft, bool)),
    /// `key=value` pairs; the key of a first bare value.
    Group(&'static str, fn(&mut Draft, Options)),
    /// Known to QEMU's users, and not to be had: the reason.
    Refused(&'static str),
}

const fn row(
    name: &'static str,
    short: &'static str,
    argument: &'static str,
    help: &'static str,
    kind: Kind,
) -> Setting {
    Setting {
        name,
        short,
        argument,
        help,
        kind,
    }
}

const NO_NETWORK: &str = "Atoll has no network device yet";
const NO_DISPLAY: &str = "Atoll has no display; its console is the serial line";
const NO_GDB: &str = "Atoll has no debugger's port yet; -d logs what the guest does";
const NO_MONITOR: &str = "Atoll has no monitor; write -monitor none";

/// All settings, in the order of the help.
pub(crate) const SETTINGS: &[Setting] = &[
    row(
        "name",
        "",
        "NAME",
        "the machine's name in messages",
        Kind::Text(name),
    ),
    row(
        "memory",
        "m",
        "SIZE",
        "guest memory, such as 512M or 2G (default 512M)",
        Kind::Group("size", memory),
    ),
    row(
        "cpu",
        "",
        "MODEL[,+F,-F]",
        "atoll (default), max, or a model of QEMU's, with features switched on or off; help lists them",
        Kind::Group("model", cpu),
    ),
    row(
        "smp",
        "",
        "1",
        "number of CPUs; there is one",
        Kind::Group("cpus", smp),
    ),
    row(
        "machine",
        "M",
        "pc|q35",
        "accepted for QEMU's sake: there is one board",
        Kind::Group("type", machine),
    ),
    row(
        "accel",
        "",
        "tcg",
        "accepted for QEMU's sake: Atoll always translates",
        Kind::Group("accel", accel),
    ),
    row(
        "bios",
        "",
        "FILE",
        "a firmware image, in which the CPU starts at the reset vector; it is offered -kernel, a Linux bzImage then",
        Kind::Text(|draft, _, text| draft.boot.bios = Some(draft.base.join(text))),
    ),
    row(
        "kernel",
        "",
        "FILE",
        "the kernel to boot: a Linux bzImage, a Multiboot or PVH kernel, or an ELF file",
        Kind::Text(|draft, _, text| draft.boot.kernel = Some(draft.base.join(text))),
    ),
    row(
        "initrd",
        "",
        "FILE[ ARG...][,FILE[ ARG...]]...",
        "its initial RAM disk; for a Multiboot or PVH kernel its modules, with their arguments",
        Kind::Text(initrd),
    ),
    row("append", "", "TEXT", "its command line", Kind::Text(append)),
    row(
        "drive",
        "",
        "file=F,format=qcow2|raw[,if=virtio|none][,id=I][,cache=MODE][,readonly=on][,snapshot=on][,discard=ignore][,backing=F]...",
        "a disk; backing= names a backing file that the image may open, or a directory of them (may be repeated)",
        Kind::Group("file", drive),
    ),
    row(
        "blockdev",
        "",
        "driver=D,node-name=N,...",
        "a disk without a device, in QEMU's newer spelling (also as JSON)",
        Kind::Group("driver", blockdev),
    ),
    row(
        "device",
        "",
        "virtio-blk-pci,drive=I[,serial=S][,addr=A] | isa-serial,chardev=I",
        "the device in front of a drive or a chardev",
        Kind::Group("driver", device),
    ),
    row(
        "chardev",
        "",
        "stdio|pty|socket|file|null,id=I[,path=F][,server=on][,wait=off]",
        "the other end of a serial line",
        Kind::Group("backend", chardev),
    ),
    row(
        "serial",
        "",
        "stdio|pty|unix:PATH,server[,nowait]|file:PATH|null|none|chardev:I",
        "the next serial port, COM1 first (default: COM1 on stdio)",
        Kind::Text(serial),
    ),
    row(
        "nographic",
        "",
        "",
        "accepted for QEMU's sake: there is no display",
        Kind::Switch(|_, _| ()),
    ),
    row(
        "display",
        "",
        "none",
        "accepted for QEMU's sake: there is no display",
        Kind::Text(display),
    ),
    row(
        "parallel",
        "",
        "none",
        "accepted for QEMU's sake: there is no parallel port",
        Kind::Text(parallel),
    ),
    row(
        "vga",
        "",
        "none",
        "accepted for QEMU's sake: there is no display",
        Kind::Text(display),
    ),
    row(
        "monitor",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(monitor),
    ),
    row(
        "net",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(network),
    ),
    row(
        "nic",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(network),
    ),
    row(
        "nodefaults",
        "",
        "",
        "no device that was not asked for: no serial port on stdio",
        Kind::Switch(|draft, on| draft.no_defaults = on),
    ),
    row(
        "no-user-config",
        "",
        "",
        "accepted for QEMU's sake: there is none",
        Kind::Switch(|_, _| ()),
    ),
    row(
        "no-reboot",
        "",
        "",
        "a guest reset ends the run",
        Kind::Switch(|draft, on| draft.no_reboot = on),
    ),
    row(
        "snapshot",
        "",
        "",
        "writes to all disks go to temporary layers",
        Kind::Switch(|draft, on| draft.snapshot = on),
    ),
    row(
        "stopped",
        "S",
        "",
        "do not start until SIGUSR1 comes",
        Kind::Switch(|draft, on| draft.start_stopped = on),
    ),
    row(
        "icount",
        "",
        "shift=N[,sleep=on|off]",
        "an instruction takes 2^N ns and nothing else is charged; sleep=off is --policy exact",
        Kind::Group("shift", icount),
    ),
    row(
        "rtc",
        "",
        "base=utc|localtime|DATE",
        "what the guest's clock shows at the start (default 2026-01-01, so that runs are equal)",
        Kind::Group("base", rtc),
    ),
    row(
        "seed",
        "",
        "N|random",
        "where the guest's random numbers come from (default 0)",
        Kind::Text(seed),
    ),
    row(
        "policy",
        "",
        "auto|exact|paced",
        "how virtual time follows the wall clock (default auto: paced with a terminal or socket, else exact)",
        Kind::Text(policy),
    ),
    row(
        "engine",
        "",
        "jit|interp|lockstep",
        "how instructions are run (default jit)",
        Kind::Text(engine),
    ),
    row(
        "debug",
        "d",
        "ITEM,...",
        "what to log: in_asm, exec, cpu, int, io, guest_errors, unimp, cpu_reset; help explains them",
        Kind::Text(debug),
    ),
    row(
        "debug-file",
        "D",
        "FILE",
        "where -d logs to (default: standard error)",
        Kind::Text(|draft, _, text| draft.debug.file = Some(draft.base.join(text))),
    ),
    row(
        "timeout",
        "",
        "TIME",
        "end the run after so much wall time, such as 90s",
        Kind::Text(|draft, origin, text| draft.timeout = duration(draft, origin, text)),
    ),
    row(
        "vtime-limit",
        "",
        "TIME",
        "end the run at this virtual time",
        Kind::Text(|draft, origin, text| draft.vtime_limit = duration(draft, origin, text)),
    ),
    row(
        "grace",
        "",
        "TIME",
        "how long the guest may take to power off after SIGTERM (default 10s)",
        Kind::Text(|draft, origin, text| draft.grace = duration(draft, origin, text)),
    ),
    row(
        "script",
        "",
        "FILE",
        "type inside the machine: lines of expect \"TEXT\" and send \"TEXT\"",
        Kind::Text(|draft, _, text| draft.script = Some(draft.base.join(text))),
    ),
    row(
        "stats",
        "",
        "FILE",
        "write statistics as JSON at the end",
        Kind::Text(|draft, _, text| draft.stats = Some(draft.base.join(text))),
    ),
    row(
        "trail",
        "",
        "FILE",
        "write the trail: inputs and rolling hashes of the run",
        Kind::Text(|draft, _, text| draft.trail = Some(draft.base.join(text))),
    ),
    row(
        "hash-every",
        "",
        "TIME",
        "virtual time between two hashes of the trail (default 100ms)",
        Kind::Text(hash_every),
    ),
    row(
        "enable-kvm",
        "",
        "",
        "",
        Kind::Refused("Atoll translates every instruction; it does not use KVM"),
    ),
    row("netdev", "", "", "", Kind::Refused(NO_NETWORK)),
    row("vnc", "", "", "", Kind::Refused(NO_DISPLAY)),
    row("spice", "", "", "", Kind::Refused(NO_DISPLAY)),
    row("qmp", "", "", "", Kind::Refused(NO_MONITOR)),
    row("mon", "", "", "", Kind::Refused(NO_MONITOR)),
    row("gdb", "s", "", "", Kind::Refused(NO_GDB)),
    row(
        "cdrom",
        "",
        "",
        "",
        Kind::Refused("Atoll has no CD-ROM; attach the image with -drive ...,readonly=on"),
    ),
    row(
        "hda",
        "",
        "",
        "",
        Kind::Refused("Atoll has no IDE disk; write -drive file=FILE,format=...,if=virtio"),
    ),
    row(
        "daemonize",
        "",
        "",
        "",
        Kind::Refused("start it in the background with & or a service manager"),
    ),
    row(
        "loadvm",
        "",
        "",
        "",
        Kind::Refused("snapshots are not there yet"),
    ),
];

/// The setting that a flag (without dashes) or a key names. Keys may be written with underscores.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    let key = name.replace('_', "-");
    SETTINGS
        .iter()
        .find(|setting| setting.name == key || (setting.short == name && !name.is_empty()))
}

/// What can be said behind a flag whose choices have a list.
pub(crate) fn choices(setting: &Setting) -> Option<String> {
    let list = |title: &str, rows: &[(&str, &str)]| {
        rows.iter()
            .fold(format!("{title}:\n"), |text, (name, help)| {
                text + &format!("  {name:<16}{help}\n")
            })
    };
    Some(match setting.name {
        "cpu" => cpu::cpu_help(),
        "debug" => list(
            "Items to log (comma separated)",
            &DebugItem::ALL.map(|item| (item.name(), item.description())),
        ),
        "machine" => list("Supported machines", &[("pc, q35", setting.help)]),
        "device" => list("Devices", &DEVICES),
        "chardev" => list("Available chardev backend types", &crate::chardev::KINDS),
        _ => return None,
    })
}

const DEVICES: [(&str, &str); 2] = [
    (
        "virtio-blk-pci",
        "a disk: drive=ID or a -blockdev's node-name",
    ),
    ("isa-serial", "a serial port: chardev=ID"),
];

pub(crate) fn known_flags() -> Vec<String> {
    let shown = SETTINGS
        .iter()
        .filter(|setting| !matches!(setting.kind, Kind::Refused(_)));
    let spellings = shown.flat_map(|setting| [setting.name, setting.short]);
    spellings
        .filter(|spelling| !spelling.is_empty())
        .map(dashed)
        .collect()
}

/// A flag as it is usually written: QEMU's with one dash, Atoll's own with two.
pub(crate) fn dashed(name: &str) -> String {
    const OWN: [&str; 11] = [
        "engine",
        "seed",
        "policy",
        "script",
        "stats",
        "trail",
        "hash-every",
        "timeout",
        "vtime-limit",
        "grace",
        "stopped",
    ];
    if OWN.contains(&name) {
        format!("--{name}")
    } else {
        format!("-{name}")
    }
}

fn duration(draft: &mut Draft, origin: &Origin, text: &str) -> Option<std::time::Duration> {
    match units::duration(text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            draft.problems.add(origin, message);
            None
        }
    }
}

fn hash_every(draft: &mut Draft, origin: &Origin, text: &str) {
    let every = duration(draft, origin, text);
    if every.is_some_and(|every| every.as_micros() == 0) {
        draft
            .problems
            .add(origin, "a hash at most every microsecond");
    }
    draft.hash_every = every;
}

/// A word out of a list.
fn word<T: Copy>(draft: &mut Draft, origin: &Origin, text: &str, words: &[(&str, T)]) -> Option<T> {
    let found = words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value);
    if found.is_none() {
        draft
            .problems
            .unknown(origin, "value", text, words.iter().map(|(word, _)| *word));
    }
    found
}

fn initrd(draft: &mut Draft, origin: &Origin, text: &str) {
    let base = draft.base.clone();
    let initrd = Initrd {
        base,
        text: text.to_owned(),
    };
    if initrd.files(|_| false).len() > Initrd::MAX_FILES {
        draft
            .problems
            .add(origin, format!("at most {} files", Initrd::MAX_FILES));
    }
    draft.boot.initrd = Some(initrd);
}

/// QEMU's `NAME[,process=...]`.
fn name(draft: &mut Draft, _: &Origin, text: &str) {
    let first = text.split(',').next().unwrap_or(text);
    draft.name = Some(first.strip_prefix("guest=").unwrap_or(first).to_owned());
}

fn memory(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    match options
        .take("size", &mut draft.problems)
        .as_deref()
        .map(|text| units::size(text, 1 << 20))
    {
        Some(Ok(bytes)) => draft.memory = Some((origin, bytes)),
        Some(Err(message)) => draft.problems.add(&origin, message),
        None => draft.problems.add(&origin, "a size is missing"),
    }
    for key in ["slots", "maxmem"] {
        options.refuse(
            key,
            "memory cannot be added to a running machine",
            &mut draft.problems,
        );
    }
    options.finish(&mut draft.problems);
}

/// `-cpu MODEL,+feature,-feature,feature=on`.
fn cpu(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    let mut result = Cpu {
        model: CpuModel::Atoll,
        features: Vec::new(),
    };
    for (key, value) in options.drain() {
        match (key.as_str(), value.as_deref()) {
            ("model", Some("default" | "base")) => result.model = CpuModel::Atoll,
            ("model", Some("host")) => {
                let message = "the guest's CPU does not depend on the host's; write atoll or max";
                draft.problems.add(&origin, message);
            }
            ("model", Some(name)) => match CpuModel::named(name) {
                Some(model) => result.model = model,
                None => {
                    let known = CpuModel::ALL.map(CpuModel::name);
                    draft.problems.unknown(&origin, "CPU model", name, known);
                }
            },
            // Every feature is checked, and none is left out in silence.
            ("check" | "enforce", None | Some("on")) => {}
            ("features", Some(list)) => {
                let features = list.split(',').filter(|feature| !feature.is_empty());
                features
                    .for_each(|feature| cpu_feature(draft, &origin, &mut result, feature, None));
            }
            (feature, value) => cpu_feature(draft, &origin, &mut result, feature, value),
        }
    }
    draft.cpu = Some(result);
}

fn cpu_feature(draft: &mut Draft, origin: &Origin, cpu: &mut Cpu, text: &str, value: Option<&str>) {
    let (name, on) = match (text.strip_prefix('+'), text.strip_prefix('-'), value) {
        (Some(name), _, None) => (name, true),
        (_, Some(name), None) => (name, false),
        (None, None, None) => (text, true),
        (_, _, Some(value)) => match units::boolean(value) {
            Ok(on) => (text, on),
            Err(message) => return draft.problems.add(origin, format!("{text}: {message}")),
        },
    };
    match cpu::feature(name) {
        Some(feature) if feature.offered => cpu.features.push(CpuFeature {
            name: feature.name.to_owned(),
            on,
        }),
        // What is not there is easily left out.
        Some(_) if !on => {}
        Some(feature) => {
            let message = format!("{}: Atoll's CPU does not have this feature", feature.name);
            draft.problems.add(origin, message);
        }
        None => draft
            .problems
            .unknown(origin, "CPU feature", name, cpu::spellings()),
    }
}

fn smp(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    for key in ["cpus", "cores", "sockets", "threads", "maxcpus", "dies"] {
        let Some(text) = options.take(key, &mut draft.problems) else {
            continue;
        };
        if text != "1" {
            let message = format!(
                "{key}={text}: there is one virtual CPU; several will take turns by instruction \
                 count, so that runs stay exact, but are not there yet"
            );
            draft.problems.add(&origin, message);
        }
    }
    options.finish(&mut draft.problems);
}

fn machine(draft: &mut Draft, mut options: Options) {
    options.ignore(&[
        "usb",
        "graphics",
        "vmport",
        "dump-guest-core",
        "mem-merge",
        "smm",
        "kernel-irqchip",
    ]);
    let origin = options.origin.clone();
    if let Some(kind) = options.take("type", &mut draft.problems) {
        let known = kind.starts_with("pc-i440fx") || kind.starts_with("pc-q35");
        if !known && !["pc", "q35", "atoll"].contains(&kind.as_str()) {
            draft
                .problems
                .unknown(&origin, "machine", &kind, ["pc", "q35", "atoll"]);
        }
    }
    if let Some(kind) = options.take("accel", &mut draft.problems) {
        accelerator(draft, &origin, &kind);
    }
    options.finish(&mut draft.problems);
}

fn accel(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.ignore(&["thread", "tb-size", "split-wx", "one-insn-per-tb"]);
    if let Some(kind) = options.take("accel", &mut draft.problems) {
        accelerator(draft, &origin, &kind);
    }
    options.finish(&mut draft.problems);
}

fn accelerator(draft: &mut Draft, origin: &Origin, text: &str) {
    if !text.split(':').any(|choice| choice == "tcg") {
        let message = format!("\"{text}\": Atoll translates every instruction, as QEMU's tcg does");
        draft.problems.add(origin, message);
    }
}

fn append(draft: &mut Draft, origin: &Origin, text: &str) {
    draft.append = Some((origin.clone(), text.to_owned()));
}

fn drive(draft: &mut Draft, options: Options) {
    let Some(request) = parse_drive(options, &draft.base.clone(), &mut draft.problems) else {
        return;
    };
    if request.with_device {
        draft.fronts.push(FrontRequest::OfDrive(draft.drives.len()));
    }
    draft.drives.push(request);
}

fn blockdev(draft: &mut Draft, options: Options) {
    let node = parse_blockdev(options, &draft.base.clone(), &mut draft.problems);
    if let Some(node) = node {
        if draft.nodes.iter().any(|other| other.name == node.name) {
            let message = format!("the node name \"{}\" is used twice", node.name);
            draft.problems.add(&node.origin, message);
        }
        draft.nodes.push(node);
    }
}

fn device(draft: &mut Draft, mut options: Options) {
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

fn chardev(draft: &mut Draft, options: Options) {
    let origin = options.origin.clone();
    let chardev = parse_chardev(options, &draft.base.clone(), &mut draft.problems);
    draft
        .chardevs
        .extend(chardev.map(|chardev| (origin, chardev)));
}

fn serial(draft: &mut Draft, origin: &Origin, text: &str) {
    let request = parse_serial(text, &draft.base.clone(), origin, &mut draft.problems);
    draft
        .serials
        .extend(request.map(|request| (origin.clone(), request)));
}

fn display(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_DISPLAY}"));
    }
}

fn monitor(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" && text != "null" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_MONITOR}"));
    }
}

fn parallel(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        let message = format!("\"{text}\": Atoll has no parallel port");
        draft.problems.add(origin, message);
    }
}

fn network(draft: &mut Draft, origin: &Origin, text: &str) {
    if text != "none" {
        draft
            .problems
            .add(origin, format!("\"{text}\": {NO_NETWORK}"));
    }
}

fn icount(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.ignore(&["align"]);
    match options.take("shift", &mut draft.problems).as_deref() {
        Some("auto") => {
            let message = "shift=auto follows the host's speed, and then no two runs are equal; \
                           name a number";
            draft.problems.add(&origin, message);
        }
        Some(text) => match units::number(text) {
            Ok(shift) if shift <= 10 => draft.icount_shift = u8::try_from(shift).ok(),
            _ => draft
                .problems
                .add(&origin, format!("shift: \"{text}\" is not from 0 to 10")),
        },
        None => draft.problems.add(&origin, "shift=N is missing"),
    }
    if let Some(sleep) = options.take_bool("sleep", &mut draft.problems) {
        draft.icount_policy = Some(if sleep {
            PolicyChoice::Paced
        } else {
            PolicyChoice::Exact
        });
    }
    for key in ["rr", "rrfile", "rrsnapshot"] {
        options.refuse(
            key,
            "recording is Atoll's own: --trail",
            &mut draft.problems,
        );
    }
    options.finish(&mut draft.problems);
}

fn rtc(draft: &mut Draft, mut options: Options) {
    let origin = options.origin.clone();
    options.take_word(
        "clock",
        &[("vm", ()), ("host", ()), ("rt", ())],
        &mut draft.problems,
    );
    options.take_word(
        "driftfix",
        &[("none", ()), ("slew", ())],
        &mut draft.problems,
    );
    match options.take("base", &mut draft.problems).as_deref() {
        None => {}
        Some("utc") => draft.rtc = Some(RtcBase::HostUtc),
        Some("localtime") => draft.rtc = Some(RtcBase::HostLocal),
        Some(text) => match units::date(text) {
            Some(seconds) => draft.rtc = Some(RtcBase::Epoch(seconds)),
            None => {
                let message = format!(
                    "base: \"{text}\" is neither utc, localtime, nor a date such as \
                     2026-01-01T12:00:00"
                );
                draft.problems.add(&origin, message);
            }
        },
    }
    options.finish(&mut draft.problems);
}

fn seed(draft: &mut Draft, origin: &Origin, text: &str) {
    match (text, units::number(text)) {
        ("random", _) => draft.seed = Some(Seed::Random),
        (_, Ok(number)) => draft.seed = Some(Seed::Fixed(number)),
        (_, Err(message)) => draft.problems.add(origin, message),
    }
}

fn policy(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = [
        ("auto", PolicyChoice::Auto),
        ("exact", PolicyChoice::Exact),
        ("paced", PolicyChoice::Paced),
    ];
    draft.policy = word(draft, origin, text, &words);
}

fn engine(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = Engine::ALL.map(|engine| (engine.name(), engine));
    draft.engine = word(draft, origin, text, &words);
}

fn debug(draft: &mut Draft, origin: &Origin, text: &str) {
    let words = DebugItem::ALL.map(|item| (item.name(), item));
    for item in text.split(',') {
        let item = word(draft, origin, item, &words);
        draft.debug.items.extend(item);
    }
}
