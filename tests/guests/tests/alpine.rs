//! Another user space on the same kernel: Alpine's, with musl and its own busybox.

use guest_tests::{Boot, alpine_tarball};

#[test]
fn alpines_user_space_works() {
    if alpine_tarball().is_none() {
        eprintln!(
            "not tested: ATOLL_ALPINE_TARBALL names no tarball of Alpine's mini root file system"
        );
        return;
    }
    Boot::shell("alpine")
        .commands(&[
            "cat /etc/alpine-release; apk --version",
            "apk info | sort | head -n 3 | tr '\\n' ' '",
            "i=0; s=0; while [ $i -lt 2000 ]; do i=$((i + 1)); s=$((s + i * i)); done; echo sum $s",
            "ls -lR /etc /lib /usr > /tmp/list && grep -c . /tmp/list > /tmp/lines && test $(cat /tmp/lines) -gt 200 && echo listed $((40 + 2))",
            "awk 'BEGIN { for (i = 0; i < 1000; i++) x += sin(i); printf \"%.12f\\n\", x }'",
        ])
        .run()
        .expect_code(0)
        .expect_console("apk-tools 2.14")
        .expect_console("alpine-baselayout")
        .expect_console("sum 2668667000")
        .expect_console("listed 42")
        .expect_console("-0.012909906459");
}
