//! A sandbox's policy as data: what is allowed and why.

use std::path::PathBuf;

use nix::libc;

/// What a process keeps after [`super::enter`].
#[derive(Clone, Debug)]
pub struct Policy {
    /// System calls; all others fail.
    pub rules: Vec<Rule>,
    /// Files and directories that may still be opened.
    pub paths: Vec<(PathBuf, Access)>,
    /// Resource limits.
    pub limits: Vec<Limit>,
}

/// One system call that is allowed.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its number.
    pub call: i64,
    /// Allowed only with this argument. Two rules for one call allow either.
    pub only: Option<Argument>,
    /// Who needs it.
    pub why: &'static str,
}

/// A condition on one argument, counted from 0, as 32 bits.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// It has this value.
    Is { index: u8, value: u64 },
    /// It has none of these bits.
    Lacks { index: u8, bits: u64 },
}

impl Argument {
    pub(super) fn index(&self) -> u8 {
        match *self {
            Argument::Is { index, .. } | Argument::Lacks { index, .. } => index,
        }
    }
}

/// What may be done below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    ReadWrite,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A dump would hold guest data.
    NoCoreDumps,
    /// Descriptors above this number cannot be made.
    Descriptors(u64),
}

/// A rule without a condition.
const fn allow(call: i64, why: &'static str) -> Rule {
    Rule {
        call,
        only: None,
        why,
    }
}

const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

/// What std, libc and the SDK need in every device process.
const COMMON: &[Rule] = &[
    allow(libc::SYS_futex, "the SDK sleeps on doorbells, std on locks"),
    allow(
        libc::SYS_sendmsg,
        "control session: heartbeats, faults, log",
    ),
    allow(libc::SYS_recvmsg, "control session: orders"),
    allow(libc::SYS_ppoll, "control session: wait for orders"),
    allow(libc::SYS_poll, "control session: wait for orders"),
    allow(libc::SYS_read, "signals and events arrive on descriptors"),
    allow(libc::SYS_write, "events are raised, a panic is printed"),
    allow(libc::SYS_writev, "std prints a panic"),
    allow(libc::SYS_close, "descriptors are dropped"),
    allow(libc::SYS_fcntl, "std duplicates and checks descriptors"),
    allow(
        libc::SYS_clock_gettime,
        "deadlines, where the vDSO cannot answer",
    ),
    allow(libc::SYS_clock_nanosleep, "std sleeps"),
    allow(libc::SYS_sched_yield, "std's locks spin"),
    allow(
        libc::SYS_sched_getaffinity,
        "a doorbell asks whether spinning can help",
    ),
    allow(libc::SYS_getrandom, "std seeds hash maps"),
    allow(libc::SYS_getpid, "abort names itself"),
    allow(libc::SYS_gettid, "abort names itself"),
    allow(libc::SYS_tgkill, "abort raises SIGABRT"),
    allow(libc::SYS_brk, "the allocator grows"),
    allow(libc::SYS_munmap, "the allocator shrinks, segments go"),
    allow(libc::SYS_mremap, "the allocator moves large blocks"),
    allow(libc::SYS_madvise, "the allocator returns memory"),
    Rule {
        call: libc::SYS_mmap,
        only: Some(Argument::Lacks {
            index: 2,
            bits: EXECUTABLE,
        }),
        why: "the allocator and thread stacks; never code",
    },
    Rule {
        call: libc::SYS_mprotect,
        only: Some(Argument::Lacks {
            index: 2,
            bits: EXECUTABLE,
        }),
        why: "guard pages of stacks; never code",
    },
    allow(libc::SYS_clone, "threads"),
    allow(libc::SYS_clone3, "threads (libc prefers it)"),
    allow(libc::SYS_set_robust_list, "libc prepares a thread"),
    allow(libc::SYS_rseq, "libc prepares a thread"),
    Rule {
        call: libc::SYS_prctl,
        only: Some(Argument::Is {
            index: 0,
            value: libc::PR_SET_NAME as u64,
        }),
        why: "std names threads",
    },
    allow(libc::SYS_sigaltstack, "std watches for stack overflow"),
    allow(libc::SYS_rt_sigprocmask, "threads and abort mask signals"),
    allow(
        libc::SYS_rt_sigaction,
        "std restores handlers at a stack overflow",
    ),
    allow(libc::SYS_rt_sigreturn, "handlers return"),
    allow(
        libc::SYS_restart_syscall,
        "the kernel resumes an interrupted sleep",
    ),
    allow(libc::SYS_exit, "a thread ends"),
    allow(libc::SYS_exit_group, "the process ends"),
];

impl Policy {
    /// What every device process needs: memory, threads, its doorbells and its control session.
    pub fn common() -> Policy {
        Policy {
            rules: COMMON.to_vec(),
            paths: Vec::new(),
            limits: vec![Limit::NoCoreDumps, Limit::Descriptors(1024)],
        }
    }

    /// Allows a call.
    #[must_use]
    pub fn call(mut self, call: i64, why: &'static str) -> Policy {
        self.rules.push(allow(call, why));
        self
    }

    /// Allows a call with one kind of argument only.
    #[must_use]
    pub fn call_if(mut self, call: i64, only: Argument, why: &'static str) -> Policy {
        self.rules.push(Rule {
            call,
            only: Some(only),
            why,
        });
        self
    }

    /// Allows files below `path` to be opened. (The calls that open are allowed separately.)
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>, access: Access) -> Policy {
        self.paths.push((path.into(), access));
        self
    }
}
