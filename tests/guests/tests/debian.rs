//! The Debian disk: systemd brings up its login, programs there compute what they should, and no death of a back end is noticed.

use std::sync::OnceLock;

use guest_tests::{Boot, Outcome, image, try_guest};

/// Prints 48271^1000000 modulo 2^31 - 1, the millionth number of a well-known generator.
const C_PROGRAM: &str = "int printf(const char *, ...); int main(void) { unsigned long x = 1; \
    for (int i = 0; i < 1000000; i++) x = x * 48271 % 2147483647; printf(\"x=%lu.\", x); }";

/// Making the disk takes user namespaces or root, which not every host gives.
fn there_is_a_disk() -> bool {
    let made = try_guest("debian");
    if let Err(error) = &made {
        eprintln!("not tested, there is no Debian disk: {error:#}");
    }
    made.is_ok()
}

fn boot() -> Boot {
    // The marks are put together by the shell, so that the echo of the command is none.
    Boot::debian().debian_commands(&[
        "systemctl is-system-running --wait",
        "python3 -c 'print(sum(i * i for i in range(100000)), 2 ** 0.5)'",
        &format!("echo '{C_PROGRAM}' > a.c && gcc -O2 a.c -o a && ./a"),
        "echo wri''ting; dd if=/dev/urandom of=data bs=1M count=256 status=progress && echo sync''ing && sync && echo hash''ing && sha256sum data > sum",
        "echo 3 > /proc/sys/vm/drop_caches && sha256sum -c sum",
    ])
}

fn expect_right(outcome: Outcome) -> Outcome {
    let outcome = outcome
        .expect_code(0)
        .expect_console("333328333350000 1.4142135623730951")
        .expect_console("x=1263606197.")
        .expect_console("data: OK");
    image::expect_sound(&outcome.path("disk.qcow2"));
    outcome
}

/// The hash of the run that nothing disturbed.
fn reference() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| expect_right(boot().run()).hash())
}

#[test]
fn it_computes_and_keeps_its_disk() {
    if there_is_a_disk() {
        reference();
    }
}

/// While data are written to it, flushed and read back.
#[test]
fn kills_of_its_back_ends_leave_no_trace() {
    if !there_is_a_disk() {
        return;
    }
    let mut running = boot().start();
    let kills: [(&str, &[&str]); 7] = [
        ("writing", &["blockd"]),
        ("copied, 2 s", &["blockd"]),
        ("copied, 3 s", &["seriald"]),
        ("copied, 4 s", &["blockd"]),
        ("syncing", &["blockd"]),
        ("hashing", &["seriald", "blockd"]),
        ("drop_caches: 3", &["blockd"]),
    ];
    for (mark, names) in kills {
        running.wait_for(mark);
        for name in names {
            running.kill_one(name);
        }
    }
    let outcome = expect_right(running.finish());
    assert_eq!(outcome.hash(), reference());
}
