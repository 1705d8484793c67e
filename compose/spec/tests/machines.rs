//! Both spellings of a machine, good and bad, from the outside.

use machine_spec::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Arguments as a shell would split this line; `'` quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn flags(line: &str) -> Result<Machine, String> {
    let mut draft = Draft::new();
    let files = draft.read_flags(&words(line));
    assert!(files.is_empty(), "{files:?}");
    draft.finish().map_err(|problems| problems.to_string())
}

fn file(text: &str) -> Result<Machine, String> {
    let mut draft = Draft::new();
    draft.read_file(Path::new("dir/m.toml"), text);
    draft.finish().map_err(|problems| problems.to_string())
}

#[test]
fn the_least_machine_has_defaults() {
    let machine = flags("-kernel k").unwrap();
    assert_eq!(machine.memory_bytes, 512 << 20);
    assert_eq!(machine.boot.kernel, Some(PathBuf::from("k")));
    assert_eq!(machine.backend_of(&machine.serials[0]), &CharBackend::Stdio);
    assert_eq!(machine.rtc, RtcBase::Epoch(1_767_225_600));
    assert_eq!(machine.seed, Seed::Fixed(0));
    assert_eq!(
        (machine.policy(true), machine.policy(false)),
        (Policy::Paced, Policy::Exact)
    );
}

#[test]
fn a_usual_qemu_command_line() {
    let machine = flags(
        "-machine q35,accel=tcg -cpu max,-aes,+rdrand -smp 1 -m 1G -nodefaults -nographic -display none \
         -kernel /boot/vmlinuz -initrd initrd.img -append 'console=ttyS0 root=/dev/vda1,x' \
         -drive file=disk.qcow2,format=qcow2,if=none,id=d0,cache=none,readonly=on,backing=base.raw \
         -device virtio-blk-pci,drive=d0,serial=ABC,addr=05 \
         -drive file=scratch.img,if=virtio,format=raw,snapshot=on \
         -chardev socket,id=c0,path=/tmp/s,server=on,wait=off -serial chardev:c0 -serial file:a,b \
         -no-reboot -icount shift=3,sleep=off -rtc base=2024-02-29T00:00:00,clock=vm \
         -d int,io -D log -S --engine interp --seed=7 --timeout 1m --vtime-limit 2.5s --stats s \
         --trail t --hash-every 10ms -name guest=x,process=y -monitor none",
    )
    .unwrap();
    assert_eq!(machine.name, "x");
    assert_eq!(machine.cpu.model, CpuModel::Max);
    let features: Vec<_> = machine
        .cpu
        .features
        .iter()
        .map(|f| (f.name.as_str(), f.on))
        .collect();
    assert_eq!(features, [("aes", false), ("rdrand", true)]);
    assert_eq!(machine.memory_bytes, 1 << 30);
    assert_eq!(machine.boot.append, "console=ttyS0 root=/dev/vda1,x");
    let [first, second] = &machine.drives[..] else {
        panic!("{:?}", machine.drives)
    };
    assert_eq!((first.front.pci_slot, second.front.pci_slot), (5, 2));
    assert_eq!(first.front.serial, "ABC");
    assert_eq!(first.image.cache, CacheMode::None);
    assert_eq!(first.image.backing, [PathBuf::from("base.raw")]);
    assert!(first.image.readonly && !first.image.snapshot && second.image.snapshot);
    assert_eq!(second.image.format, ImageFormat::Raw);
    let backends: Vec<_> = machine
        .serials
        .iter()
        .map(|s| machine.backend_of(s).clone())
        .collect();
    let unix = CharBackend::Unix {
        path: "/tmp/s".into(),
        wait: false,
    };
    assert_eq!(
        backends,
        [
            unix,
            CharBackend::File {
                path: "a,b".into(),
                append: false
            }
        ]
    );
    assert_eq!(machine.icount_shift, Some(3));
    assert_eq!(machine.policy(true), Policy::Exact);
    assert_eq!(machine.rtc, RtcBase::Epoch(1_709_164_800));
    assert_eq!(machine.debug.items, [DebugItem::Int, DebugItem::Io]);
    assert_eq!(machine.engine, Engine::Interp);
    assert!(machine.no_reboot && machine.start_stopped);
    assert_eq!(machine.timeout, Some(Duration::from_secs(60)));
    assert_eq!(machine.vtime_limit, Some(Duration::from_millis(2500)));
    let bytes = machine.to_bytes().unwrap();
    assert_eq!(Machine::from_bytes(&bytes).unwrap(), machine);
}

#[test]
fn block_nodes_in_each_spelling_are_one_image() {
    let spellings = [
        "-blockdev driver=qcow2,node-name=q,file.driver=file,file.filename=x,cache.direct=on,read-only=on,backing.driver=qcow2,backing.file.driver=file,backing.file.filename=b",
        "-blockdev driver=file,node-name=f,filename=x,cache.direct=on -blockdev driver=qcow2,node-name=q,file=f,read-only=on,backing=g -blockdev driver=qcow2,node-name=g,file.driver=file,file.filename=b",
        r#"-blockdev '{"driver":"qcow2","node-name":"q","read-only":true,"file":{"driver":"file","filename":"x"},"cache":{"direct":true},"backing":{"driver":"raw","file":{"driver":"file","filename":"b"}}}'"#,
    ];
    for spelling in spellings {
        let machine = flags(&format!(
            "-kernel k {spelling} -device virtio-blk-pci,drive=q"
        ))
        .unwrap();
        let image = &machine.drives[0].image;
        assert_eq!(image.path, PathBuf::from("x"), "{spelling}");
        assert_eq!(image.format, ImageFormat::Qcow2);
        assert_eq!(image.cache, CacheMode::None);
        assert!(image.readonly);
        assert_eq!(image.backing, [PathBuf::from("b")], "{spelling}");
    }
}

#[test]
fn the_file_says_what_the_flags_say() {
    let from_file = file(
        r#"
        name = "x"
        memory = "1G"
        cpu = "max,-avx"
        kernel = "/boot/vmlinuz"
        append = "console=ttyS0"
        serial = ["pty", "null"]
        no_reboot = true
        policy = "exact"
        timeout = 90

        [[drive]]
        file = "/img/disk.qcow2"
        cache = "unsafe"
        backing = ["/img/a", "/img/b"]

        [rtc]
        base = 2024-02-29

        [icount]
        shift = 1
        "#,
    );
    let from_flags = flags(
        "-name x -m 1G -cpu max,-avx -kernel /boot/vmlinuz -append console=ttyS0 -serial pty -serial null \
         -no-reboot --policy exact --timeout 90s -rtc base=2024-02-29 -icount 1 \
         -drive file=/img/disk.qcow2,cache=unsafe,backing=/img/a,backing=/img/b",
    );
    assert_eq!(from_file, from_flags);
    assert_eq!(
        from_file.unwrap().drives[0].image.format,
        ImageFormat::Qcow2
    );
}

#[test]
fn flags_override_the_file_and_paths_begin_at_it() {
    let mut draft = Draft::new();
    draft.read_file(
        Path::new("dir/m.toml"),
        "kernel = \"k\"\nmemory = \"1G\"\nstats = \"s\"",
    );
    draft.read_flags(&words("-m 256 --stats t"));
    let machine = draft.finish().unwrap();
    assert_eq!(machine.memory_bytes, 256 << 20);
    assert_eq!(machine.boot.kernel, Some(PathBuf::from("dir/k")));
    assert_eq!(machine.stats, Some(PathBuf::from("t")));
}

#[test]
fn bad_flags_say_what_is_wrong() {
    let cases = [
        (
            "-kernel k -kernal k",
            "unknown flag \"-kernal\"; did you mean \"-kernel\"?",
        ),
        (
            "-kernel k --sede 3",
            "unknown flag \"--sede\"; did you mean \"--seed\"?",
        ),
        ("-kernel k -kernel", "-kernel: needs a value: FILE"),
        (
            "-kernel k -smp 2",
            "-smp: cpus=2: there is one virtual CPU; several will take turns by instruction count, so that runs stay exact, but are not there yet",
        ),
        (
            "-kernel k -m lots",
            "-m: \"lots\" is not a size such as 512M or 2G",
        ),
        (
            "-kernel k -m 1",
            "-m: the memory must be between 16M and 512G",
        ),
        (
            "-kernel k -enable-kvm",
            "-enable-kvm: Atoll translates every instruction; it does not use KVM",
        ),
        // Its value is not taken for a machine file.
        (
            "-kernel k -hda disk.img",
            "-hda: Atoll has no IDE disk; write -drive file=FILE,format=...,if=virtio",
        ),
        (
            "-kernel k -d in_asm,inn",
            "-d: unknown value \"inn\"; did you mean \"int\"?",
        ),
        (
            "-kernel k -drive fiel=x",
            "-drive: unknown option \"fiel\"; did you mean \"file\"?\n-drive: a drive needs file=PATH",
        ),
        (
            "-kernel k -drive file=x,format=qcow",
            "-drive: unknown format \"qcow\"; did you mean \"qcow2\"?",
        ),
        (
            "-kernel k -drive file=x,if=none,id=a",
            "-drive: no device uses this drive; add if=virtio or a -device that names it",
        ),
        (
            "-kernel k -drive file=x,if=none,id=disk -device virtio-blk-pci,drive=dsk",
            "-device: unknown drive \"dsk\"; did you mean \"disk\"?\n-drive: no device uses this drive; add if=virtio or a -device that names it",
        ),
        (
            "-kernel k -device virtoi-blk-pci,drive=a",
            "-device: unknown device \"virtoi-blk-pci\"; did you mean \"virtio-blk-pci\"?",
        ),
        (
            "-kernel k -drive file=x,addr=3 -drive file=y,addr=3",
            "-drive: addr: PCI device 0x3 is taken",
        ),
        (
            "-kernel k -drive file=x,serial=123456789012345678901",
            "-drive: the serial number has more than 20 bytes",
        ),
        (
            "-kernel k -serial chardev:x",
            "-serial: unknown chardev \"x\"",
        ),
        (
            "-kernel k -serial stdio -serial mon:stdio",
            "only one character device can have stdio",
        ),
        (
            "-kernel k -serial unix:/s",
            "-serial: socket: Atoll listens and does not connect; add server=on",
        ),
        (
            "-kernel k -cpu max,+avx3",
            "-cpu: unknown CPU feature \"avx3\"; did you mean \"avx\"?",
        ),
        (
            "-kernel k -cpu pentium5",
            "-cpu: unknown CPU model \"pentium5\"; did you mean \"pentium\"?",
        ),
        (
            "-kernel k -cpu 486,+vmx",
            "-cpu: vmx: Atoll's CPU does not have this feature",
        ),
        (
            "-kernel k --engine jot",
            "--engine: unknown value \"jot\"; did you mean \"jit\"?",
        ),
        (
            "-kernel k -icount auto",
            "-icount: shift=auto follows the host's speed, and then no two runs are equal; name a number",
        ),
        (
            "",
            "nothing to boot: name a kernel with -kernel FILE, or firmware with -bios FILE",
        ),
    ];
    let mut bad = Vec::new();
    for (line, expected) in cases {
        let found = flags(line).expect_err(line);
        if found != expected {
            bad.push(format!("{line}\n  {found}\n  {expected}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn all_problems_come_at_once() {
    let text = "memroy = 5\nengine = \"x\"\n\n[[drive]]\nformat = \"raw\"\nfiel = \"x\"\n";
    let expected = "dir/m.toml:1: unknown key \"memroy\"; did you mean \"memory\"?\n\
        dir/m.toml:2: unknown value \"x\"\n\
        dir/m.toml:6: unknown option \"fiel\"; did you mean \"file\"?\n\
        dir/m.toml:4: a drive needs file=PATH\n\
        nothing to boot: name a kernel with -kernel FILE, or firmware with -bios FILE";
    assert_eq!(file(text).unwrap_err(), expected);
    assert!(
        file("a = \nkernel = \"k\"")
            .unwrap_err()
            .starts_with("dir/m.toml:1: ")
    );
}

#[test]
fn the_worker_is_told_no_path() {
    let machine = flags("-kernel /secret/k -drive file=/secret/d,if=virtio,id=d -serial file:/secret/s --trail /secret/t").unwrap();
    let resolved = Resolved {
        rtc_epoch: 5,
        seed: 6,
        policy: Policy::Exact,
        script: Vec::new(),
        bios: None,
        kernel: Some(Blob { index: 0, len: 10 }),
        modules: vec![(Blob { index: 1, len: 3 }, "m arg".into())],
    };
    let told = WorkerMachine::new(&machine, resolved);
    let bytes = told.to_bytes();
    assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    assert_eq!(WorkerMachine::from_bytes(&bytes).unwrap(), told);
    assert_eq!(told.guest.modules, ["m arg"]);
    assert_eq!(told.guest.places[0].kind, PlaceKind::Serial { index: 0 });
    assert_eq!(told.guest.places[1].id, "d");
    for cut in 0..bytes.len() {
        assert!(WorkerMachine::from_bytes(&bytes[..cut]).is_err());
    }
}

#[test]
fn an_initrd_is_one_file_or_several_with_arguments() {
    let machine = flags("-kernel k -initrd 'a/one x y,b,,c,/d z'").unwrap();
    let initrd = machine.boot.initrd.unwrap();
    let files = |exists: bool| -> Vec<_> {
        let files = initrd.files(|_| exists).into_iter();
        files
            .map(|file| (file.path.display().to_string(), file.text))
            .collect()
    };
    let pair = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    assert_eq!(
        files(false),
        [
            pair("a/one", "one x y"),
            pair("b,c", "b,c"),
            pair("/d", "d z")
        ]
    );
    assert_eq!(files(true), [pair("a/one x y,b,,c,/d z", "d z")]);
}

/// What is understood of a machine with mistakes is there to be looked at for more of them.
#[test]
fn a_machine_with_mistakes_is_described() {
    let mut draft = Draft::new();
    draft.read_flags(&words(
        "-kernel k -m 1 -smp 2 -serial chardev:none -drive file=d,if=ide",
    ));
    let (machine, problems) = draft.describe();
    assert_eq!(machine.boot.kernel, Some(PathBuf::from("k")));
    assert_eq!(machine.drives[0].image.path, PathBuf::from("d"));
    assert_eq!(machine.policy(true), Policy::Exact);
    assert_eq!(problems.iter().count(), 4, "{problems}");
}

#[test]
fn a_flag_lists_its_choices() {
    let asked = |line: &str| choices(&words(line));
    for (line, choice) in [
        ("-kernel k -cpu help", "Haswell"),
        ("-cpu ?", "Haswell"),
        ("--cpu=help", "Haswell"),
        ("-d help", "in_asm"),
        ("-device help", "virtio-blk-pci"),
        ("-chardev help", "socket"),
        ("-M help", "q35"),
    ] {
        let list = asked(line).expect(line);
        assert!(list.contains(choice), "{line}: {list}");
    }
    assert_eq!(asked("-append help -kernel k"), None);
    assert_eq!(asked("-kernel k -cpu max"), None);
}

#[test]
fn hashes_need_a_trail_to_be_written_to() {
    let refused = flags("-kernel k --hash-every 10ms").unwrap_err();
    assert!(refused.contains("--trail FILE"), "{refused}");
    flags("-kernel k --trail t --hash-every 10ms").unwrap();
}

#[test]
fn the_help_names_every_flag() {
    let help = flags_help();
    for flag in [
        "-m",
        "-kernel",
        "-drive",
        "-blockdev",
        "--trail",
        "-S",
        "-D",
        "-icount",
    ] {
        assert!(help.contains(flag), "{flag}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(lines in proptest::collection::vec("[-a-z=,:.0-9\\[\\]{}\"\n]{0,24}", 0..6)) {
        let text = lines.join("\n");
        hostile::flags(text.as_bytes());
        hostile::machine_file(text.as_bytes());
        hostile::script(text.as_bytes());
    }

    #[test]
    fn no_bytes_for_the_worker_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        hostile::worker_machine(&bytes);
    }
}
