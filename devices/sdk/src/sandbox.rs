//! What a device process gives up once it has opened what it needs.
//!
//! What it is: the last step before a process reads its first request. From then on a fault in its
//! parsers (image formats, network frames, file names) is confined: it can use the descriptors that
//! it holds and nothing else. Four fences, each of which the host may lack:
//! * *no new privileges*: no set-uid program helps it (prctl(2), PR_SET_NO_NEW_PRIVS);
//! * *resource limits*: no core dump shows guest data, no flood of descriptors (setrlimit(2));
//! * *landlock*: no file is opened, made or removed, except below the paths that a policy names;
//! * *seccomp*: no system call but those that a policy lists, each with its reason. A forbidden one
//!   fails with EPERM, which std and libc bear; it does not kill.
//!
//! What it is not: a promise. Whatever fence cannot be put up is reported, and the process serves on:
//! a machine on an old kernel is better than none.

mod policy;

pub use policy::{Access, Argument, Limit, Policy, Rule};

use std::collections::BTreeMap;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Permission denied, which is what a forbidden call answers.
const EPERM: u32 = nix::libc::EPERM as u32;

/// Puts up every fence of `policy` that the host has, for this thread and all that it starts.
/// Returns what is missing, in words for the log.
pub fn enter(policy: &Policy) -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |fence: &str, result: Result<(), String>| {
        if let Err(why) = result {
            missing.push(format!("no {fence}: {why}"));
        }
    };
    note("limits", set_limits(&policy.limits));
    note(
        "no-new-privileges",
        rustix::thread::set_no_new_privs(true).map_err(|error| error.to_string()),
    );
    note("landlock", restrict_files(&policy.paths));
    note("seccomp", restrict_calls(&policy.rules));
    missing
}

fn set_limits(limits: &[Limit]) -> Result<(), String> {
    for limit in limits {
        let resource = match limit {
            Limit::NoCoreDumps => Resource::Core,
            Limit::Descriptors(_) => Resource::Nofile,
        };
        let most = match limit {
            Limit::NoCoreDumps => 0,
            Limit::Descriptors(most) => *most,
        };
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )
        .map_err(|error| format!("{limit:?}: {error}"))?;
    }
    Ok(())
}

fn restrict_files(paths: &[(std::path::PathBuf, Access)]) -> Result<(), String> {
    let abi = ABI::V5;
    let restrict = || -> Result<RulesetStatus, Box<dyn std::error::Error>> {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .create()?;
        for (path, access) in paths {
            let rights: BitFlags<AccessFs> = match access {
                Access::Read => AccessFs::from_read(abi),
                Access::ReadWrite => AccessFs::from_all(abi),
            };
            ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, rights))?;
        }
        Ok(ruleset.restrict_self()?.ruleset)
    };
    match restrict() {
        Ok(RulesetStatus::NotEnforced) => Err("this kernel does not have it".into()),
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn restrict_calls(rules: &[Rule]) -> Result<(), String> {
    let program = compile(rules).map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| error.to_string())
}

fn compile(rules: &[Rule]) -> Result<BpfProgram, Box<dyn std::error::Error>> {
    let mut table: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for rule in rules {
        let conditions = table.entry(rule.call).or_default();
        if let Some(argument) = &rule.only {
            let operator = match argument {
                Argument::Is { value, .. } => (SeccompCmpOp::Eq, *value),
                Argument::Lacks { bits, .. } => (SeccompCmpOp::MaskedEq(*bits), 0),
            };
            let condition = SeccompCondition::new(
                argument.index(),
                SeccompCmpArgLen::Dword,
                operator.0,
                operator.1,
            )?;
            conditions.push(SeccompRule::new(vec![condition])?);
        }
    }
    let filter = SeccompFilter::new(
        table,
        SeccompAction::Errno(EPERM),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}
