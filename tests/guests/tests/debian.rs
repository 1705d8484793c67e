//! The Debian disk: systemd brings up its login, and programs there compute what they should.

use guest_tests::{Boot, image};

/// Prints 48271^1000000 modulo 2^31 - 1, the millionth number of a well-known generator.
const C_PROGRAM: &str = "int printf(const char *, ...); int main(void) { unsigned long x = 1; \
    for (int i = 0; i < 1000000; i++) x = x * 48271 % 2147483647; printf(\"x=%lu.\", x); }";

#[test]
#[ignore = "takes minutes; make debian-test"]
fn it_computes_and_keeps_its_disk() {
    let outcome = Boot::debian()
        .debian_commands(&[
            "systemctl is-system-running --wait",
            "python3 -c 'print(sum(i * i for i in range(100000)), 2 ** 0.5)'",
            &format!("echo '{C_PROGRAM}' > a.c && gcc -O2 a.c -o a && ./a"),
            "dd if=/dev/urandom of=data bs=1M count=256 && sync && sha256sum data > sum",
            "echo 3 > /proc/sys/vm/drop_caches && sha256sum -c sum",
        ])
        .run()
        .expect_code(0)
        .expect_console("333328333350000 1.4142135623730951")
        .expect_console("x=1263606197.")
        .expect_console("data: OK");
    image::expect_sound(&outcome.path("disk.qcow2"));
}
