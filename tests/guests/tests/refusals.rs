//! Bad input: each gives a clear message and its exit code, and leaves nothing behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use guest_tests::{Boot, guest, image};

/// `atoll run` of a kernel in a file of the run's own directory.
fn kernel(bytes: &[u8]) -> Boot {
    let boot = Boot::bare();
    let file = boot.path("kernel");
    fs::write(&file, bytes).unwrap();
    boot.args(["-m", "128"]).arg("-kernel").arg(file)
}

fn default_kernel() -> Vec<u8> {
    fs::read(guest("linux-cloud").kernel()).unwrap()
}

/// The shell guest with an image that holds these bytes.
fn with_image(bytes: &[u8]) -> Boot {
    let boot = Boot::shell("linux-cloud");
    let file = boot.path("disk.qcow2");
    fs::write(&file, bytes).unwrap();
    boot.drive(&file)
}

fn empty_image() -> Vec<u8> {
    fs::read(guest("linux-cloud").disk().unwrap()).unwrap()
}

#[test]
fn a_missing_kernel() {
    Boot::bare()
        .args(["-kernel", "no/such/file"])
        .run()
        .expect_code(2)
        .expect_errors(&["no/such/file"]);
}

#[test]
fn a_truncated_kernel() {
    kernel(&default_kernel()[..100_000])
        .run()
        .expect_code(2)
        .expect_errors(&["kernel"]);
}

#[test]
fn random_bytes_as_a_kernel() {
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let bytes: Vec<u8> = (0..200_000).map(|_| random()).collect();
    kernel(&bytes)
        .run()
        .expect_code(2)
        .expect_errors(&["kernel"]);
}

#[test]
fn a_directory_as_a_kernel() {
    let boot = Boot::bare();
    let dir = boot.path("");
    boot.arg("-kernel")
        .arg(dir)
        .run()
        .expect_code(2)
        .expect_errors(&["directory"]);
}

/// Root reads everything unless it gives that up.
#[test]
fn files_that_may_not_be_read() {
    const GIVE_UP: [&str; 2] = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let root = rustix::process::geteuid().is_root();
    let can = || Command::new(GIVE_UP[0]).args([GIVE_UP[1], "true"]).status();
    if root && !can().is_ok_and(|status| status.success()) {
        eprintln!("not tested: this host does not let us give up what root may do");
        return;
    }
    let wrapper: &[&str] = if root { &GIVE_UP } else { &[] };
    let forbid = |file: &Path| fs::set_permissions(file, Permissions::from_mode(0o000)).unwrap();
    let boot = kernel(&default_kernel());
    forbid(&boot.path("kernel"));
    boot.within(wrapper)
        .run()
        .expect_code(2)
        .expect_errors(&["kernel", "Permission denied"]);
    let boot = with_image(&empty_image());
    forbid(&boot.path("disk.qcow2"));
    boot.within(wrapper)
        .run()
        .expect_code(2)
        .expect_errors(&["disk.qcow2", "Permission denied"]);
}

#[test]
fn an_initrd_that_does_not_fit() {
    let boot = kernel(&default_kernel());
    let initrd = boot.path("initrd");
    fs::File::create(&initrd)
        .unwrap()
        .set_len(200 << 20)
        .unwrap();
    boot.arg("-initrd")
        .arg(initrd)
        .run()
        .expect_code(2)
        .expect_errors(&["initrd"]);
}

#[test]
fn more_memory_than_the_host_has() {
    Boot::shell("linux-cloud")
        .args(["-m", "64T"])
        .run()
        .expect_code(2)
        .expect_errors(&["memory"]);
}

#[test]
fn every_mistake_is_reported_at_once() {
    Boot::bare()
        .args(["-kernal", "x", "--engine", "jitt", "-smp", "2"])
        .args(["-initrd", "no/such/file"])
        .run()
        .expect_code(2)
        .expect_errors(&["-kernal", "-kernel", "jitt", "smp", "no/such/file"]);
}

#[test]
fn every_bad_image_is_reported_at_once() {
    let boot = with_image(&empty_image()[..60]);
    let other = boot.path("other.qcow2");
    fs::write(&other, [0; 4096]).unwrap();
    boot.drive(&other).run().expect_code(2).expect_errors(&[
        "disk.qcow2",
        "truncated",
        "other.qcow2",
        "not a qcow2 image",
    ]);
}

#[test]
fn an_image_that_is_not_there() {
    let boot = Boot::shell("linux-cloud");
    let file = boot.path("none.qcow2");
    boot.drive(&file)
        .run()
        .expect_code(2)
        .expect_errors(&["none.qcow2"]);
}

#[test]
fn a_corrupt_image() {
    let mut bytes = empty_image();
    // The L1 table lies where no file reaches.
    bytes[40..48].copy_from_slice(&u64::to_be_bytes(1 << 40));
    with_image(&bytes)
        .run()
        .expect_code(2)
        .expect_errors(&["disk.qcow2"]);
}

#[test]
fn a_truncated_image() {
    with_image(&empty_image()[..60])
        .run()
        .expect_code(2)
        .expect_errors(&["disk.qcow2"]);
}

#[test]
fn an_encrypted_image() {
    let mut bytes = empty_image();
    bytes[32..36].copy_from_slice(&u32::to_be_bytes(1));
    with_image(&bytes)
        .run()
        .expect_code(2)
        .expect_errors(&["disk.qcow2", "encrypt"]);
}

/// An image from elsewhere may name any file of the host; what it may open is the user's to say, and the refusal says how.
#[test]
fn a_backing_file_that_was_not_allowed() {
    let boot = || kernel(&image::bzimage(&[0xfa, 0xf4]));
    let dir = boot();
    let base = dir.path("base.raw");
    fs::write(&base, [0; 4096]).unwrap();
    let overlay = dir.path("elsewhere").join("overlay.qcow2");
    fs::create_dir(overlay.parent().unwrap()).unwrap();
    image::make_overlay(&overlay, &base);
    let allow = format!("backing={}", base.display());
    boot()
        .drive(&overlay)
        .run()
        .expect_code(2)
        .expect_errors(&["overlay.qcow2", &allow]);
    for backing in [&base, &dir.path("")] {
        let option = format!("file={},backing={}", overlay.display(), backing.display());
        boot().arg("-drive").arg(option).run().expect_code(21);
    }
}

#[test]
fn a_locked_image_names_its_holder() {
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    let mut first = boot.drive(&disk).start();
    first.wait_for("Linux version");
    let holder = first.named("blockd").pid.to_string();
    Boot::shell("linux-cloud")
        .drive(&disk)
        .run()
        .expect_code(2)
        .expect_errors(&["disk.qcow2", &holder]);
}

#[test]
fn a_guest_that_triple_faults() {
    // An interrupt table of length zero, and an invalid instruction: lidt [rip+2]; ud2; ten bytes of zero.
    let code = [&[0x0f, 0x01, 0x1d, 0x02, 0, 0, 0, 0x0f, 0x0b][..], &[0; 10]].concat();
    kernel(&image::bzimage(&code)).run().expect_code(11);
}

#[test]
fn a_guest_that_halts_for_good() {
    // cli; hlt
    kernel(&image::bzimage(&[0xfa, 0xf4])).run().expect_code(21);
}

#[test]
fn a_guest_that_never_ends_meets_its_deadline() {
    // jmp to itself
    let endless = || kernel(&image::bzimage(&[0xeb, 0xfe]));
    endless()
        .args(["--vtime-limit", "50ms"])
        .run()
        .expect_code(16);
    endless().args(["--timeout", "1s"]).run().expect_code(15);
}

#[test]
fn a_script_that_waits_in_vain() {
    kernel(&image::bzimage(&[0xfa, 0xf4]))
        .script("expect \"never\"\nsend \"x\"\n")
        .run()
        .expect_code(19)
        .expect_errors(&["\"never\""]);
}
