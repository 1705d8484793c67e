//! What the guest writes is there afterwards, and a host that has no room is an error of the guest's disk only.

use std::process::Command;

use guest_tests::{Boot, image};

#[test]
fn the_guest_uses_its_disk() {
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    let outcome = boot
        .drive(&disk)
        .commands(&[
            "mke2fs /dev/vda && mount -t ext4 /dev/vda /mnt",
            "seq 1 200000 > /mnt/a && sync && echo 3 > /proc/sys/vm/drop_caches && sha256sum /mnt/a",
            "umount /mnt",
        ])
        .run()
        .expect_code(0)
        .expect_console("5af7b95208fdcff4");
    image::expect_sound(&outcome.path("disk.qcow2"));
}

#[test]
fn a_snapshot_leaves_the_image_as_it_was() {
    let boot = Boot::shell("linux-cloud");
    let disk = image::empty_disk(&boot.path(""));
    let before = std::fs::read(&disk).unwrap();
    let commands = ["echo kept for now > /dev/vda && sync && head -c 12 /dev/vda | tr a-z A-Z"];
    let outcome = boot
        .drive(&disk)
        .arg("-snapshot")
        .commands(&commands)
        .run()
        .expect_code(0)
        .expect_console("KEPT FOR NOW");
    assert!(
        std::fs::read(outcome.path("disk.qcow2")).unwrap() == before,
        "the image was written to"
    );
}

/// The image lies on a file system of 4 MiB, made for this one process. What the guest was told is written is
/// kept, so the machine ends with the reason rather than go on over a disk that forgets.
#[test]
fn a_full_disk_below_the_image_ends_the_machine_with_its_reason() {
    const SCRIPT: &str = r#"
        set -e
        mount -t tmpfs -o size=4m none "$1"; cp "$2" "$1/disk.qcow2"; image="$1/disk.qcow2"; shift 2
        code=0; "$@" || code=$?
        qemu-img check "$image" >&2
        exit $code
    "#;
    if !Command::new("unshare")
        .args(["-rm", "true"])
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("not tested: this host lets us make no file system");
        return;
    }
    let boot = Boot::shell("linux-cloud");
    let place = boot.path("place");
    std::fs::create_dir(&place).unwrap();
    let template = image::empty_disk(&boot.path(""));
    let (place, template) = (
        place.to_str().unwrap().to_owned(),
        template.to_str().unwrap().to_owned(),
    );
    boot.drive(format!("{place}/disk.qcow2").as_ref())
        .commands(&["dd if=/dev/zero of=/dev/vda bs=1M count=16 conv=fsync"])
        .within(&[
            "unshare", "-rm", "sh", "-c", SCRIPT, "sh", &place, &template,
        ])
        .run()
        .expect_code(12)
        .expect_errors(&[
            "No space left on device",
            "free some space",
            "No errors were found",
        ]);
}
