//! The table of settings: each with its flag, its key in the machine file, its help and its effect.
//!
//! A machine file is the flags written down: one row serves both, so that neither can do what the
//! other cannot. What the rows do to the draft of a machine is in the modules below.

mod board;
mod devices;
mod run;

use crate::cpu;
use crate::draft::Draft;
use crate::machine::DebugItem;
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
        Kind::Text(board::name),
    ),
    row(
        "memory",
        "m",
        "SIZE",
        "guest memory, such as 512M or 2G (default 512M)",
        Kind::Group("size", board::memory),
    ),
    row(
        "cpu",
        "",
        "MODEL[,+F,-F]",
        "atoll (default), max, or a model of QEMU's, with features switched on or off; help lists them",
        Kind::Group("model", board::cpu),
    ),
    row(
        "smp",
        "",
        "1",
        "number of CPUs; there is one",
        Kind::Group("cpus", board::smp),
    ),
    row(
        "machine",
        "M",
        "pc|q35",
        "accepted for QEMU's sake: there is one board",
        Kind::Group("type", board::machine),
    ),
    row(
        "accel",
        "",
        "tcg",
        "accepted for QEMU's sake: Atoll always translates",
        Kind::Group("accel", board::accel),
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
        Kind::Text(board::initrd),
    ),
    row(
        "append",
        "",
        "TEXT",
        "its command line",
        Kind::Text(board::append),
    ),
    row(
        "drive",
        "",
        "file=F,format=qcow2|raw[,if=virtio|none][,id=I][,cache=MODE][,readonly=on][,snapshot=on][,discard=ignore][,backing=F]...",
        "a disk; backing= names a backing file that the image may open, or a directory of them (may be repeated)",
        Kind::Group("file", devices::drive),
    ),
    row(
        "blockdev",
        "",
        "driver=D,node-name=N,...",
        "a disk without a device, in QEMU's newer spelling (also as JSON)",
        Kind::Group("driver", devices::blockdev),
    ),
    row(
        "device",
        "",
        "virtio-blk-pci,drive=I[,serial=S][,addr=A] | isa-serial,chardev=I",
        "the device in front of a drive or a chardev",
        Kind::Group("driver", devices::device),
    ),
    row(
        "chardev",
        "",
        "stdio|pty|socket|file|null,id=I[,path=F][,server=on][,wait=off]",
        "the other end of a serial line",
        Kind::Group("backend", devices::chardev),
    ),
    row(
        "serial",
        "",
        "stdio|pty|unix:PATH,server[,nowait]|file:PATH|null|none|chardev:I",
        "the next serial port, COM1 first (default: COM1 on stdio)",
        Kind::Text(devices::serial),
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
        Kind::Text(devices::display),
    ),
    row(
        "parallel",
        "",
        "none",
        "accepted for QEMU's sake: there is no parallel port",
        Kind::Text(devices::parallel),
    ),
    row(
        "vga",
        "",
        "none",
        "accepted for QEMU's sake: there is no display",
        Kind::Text(devices::display),
    ),
    row(
        "monitor",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(devices::monitor),
    ),
    row(
        "net",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(devices::network),
    ),
    row(
        "nic",
        "",
        "none",
        "accepted for QEMU's sake",
        Kind::Text(devices::network),
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
        Kind::Group("shift", run::icount),
    ),
    row(
        "rtc",
        "",
        "base=utc|localtime|DATE",
        "what the guest's clock shows at the start (default 2026-01-01, so that runs are equal)",
        Kind::Group("base", run::rtc),
    ),
    row(
        "seed",
        "",
        "N|random",
        "where the guest's random numbers come from (default 0)",
        Kind::Text(run::seed),
    ),
    row(
        "policy",
        "",
        "auto|exact|paced",
        "how virtual time follows the wall clock (default auto: paced with a terminal or socket, else exact)",
        Kind::Text(run::policy),
    ),
    row(
        "engine",
        "",
        "jit|interp|lockstep",
        "how instructions are run (default jit)",
        Kind::Text(run::engine),
    ),
    row(
        "debug",
        "d",
        "ITEM,...",
        "what to log: in_asm, exec, cpu, int, io, guest_errors, unimp, cpu_reset; help explains them",
        Kind::Text(run::debug),
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
        Kind::Text(run::hash_every),
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
