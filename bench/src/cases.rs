//! What is measured, in which group it counts, and the floor of each group.
//!
//! Names are those that `bench/guest/autorun` and `bench/guest/kernels.h` know. A floor is a
//! ratio of wall times, Atoll's over QEMU's (TCG, not counting instructions).

/// A group of cases with one floor.
#[derive(Debug)]
pub(crate) struct Group {
    /// Its name in the report and on the command line.
    pub(crate) name: &'static str,
    /// Its cases in the order in which the guest runs them.
    pub(crate) cases: &'static [&'static str],
    /// What has to hold for it.
    pub(crate) floor: Floor,
}

/// The largest ratio that passes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Floor {
    /// Measured, not judged.
    None,
    /// Each case by itself.
    Each(f64),
    /// The last case; those before it make the machine warm.
    Last(f64),
    /// The geometric mean of the group.
    Mean(f64),
    /// The geometric mean, and no case above the second number.
    MeanAndEach(f64, f64),
}

/// Everything that is measured.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        name: "boot",
        cases: &["boot"],
        floor: Floor::Each(2.5),
    },
    Group {
        name: "shell",
        cases: &["shell1", "shell2"],
        floor: Floor::Last(1.0),
    },
    Group {
        name: "programs",
        cases: &["cat100", "gzip1", "sha256"],
        floor: Floor::None,
    },
    Group {
        name: "integer",
        cases: &[
            "sieve", "sort", "hash", "matrix", "crc", "strings", "bits", "list",
        ],
        floor: Floor::MeanAndEach(1.0, 1.3),
    },
    Group {
        name: "float",
        cases: &["fp", "x87", "simd"],
        floor: Floor::Each(0.5),
    },
    Group {
        name: "memory",
        cases: &["memcpy", "stream"],
        floor: Floor::None,
    },
    Group {
        name: "system",
        cases: &[
            "syscall",
            "switch",
            "fork",
            "fault",
            "indirect",
            "recursion",
        ],
        floor: Floor::Mean(1.0),
    },
    Group {
        name: "self-modifying",
        cases: &["smc_patch", "smc_emit"],
        floor: Floor::Each(1.0),
    },
];

/// The cases that the words name (a case or a group each), in the guest's order; all without words.
pub(crate) fn select(words: &[String]) -> Result<Vec<&'static str>, String> {
    let known = |word: &str| {
        GROUPS
            .iter()
            .any(|group| group.name == word || group.cases.contains(&word))
    };
    if let Some(unknown) = words.iter().find(|word| !known(word)) {
        let names: Vec<_> = GROUPS
            .iter()
            .flat_map(|group| [&[group.name], group.cases].concat())
            .collect();
        return Err(format!(
            "there is no case {unknown:?}; there are: {}",
            names.join(" ")
        ));
    }
    let named = |group: &Group, case: &str| {
        words.is_empty() || words.iter().any(|word| word == case || word == group.name)
    };
    Ok(GROUPS
        .iter()
        .flat_map(|group| {
            group
                .cases
                .iter()
                .copied()
                .filter(move |case| named(group, case))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_cases_and_groups_in_the_guests_order() {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            select(&words(&["float", "sieve"])).unwrap(),
            ["sieve", "fp", "x87", "simd"]
        );
        assert!(select(&words(&["sieves"])).unwrap_err().contains("sieves"));
        assert!(select(&[]).unwrap().len() > 20);
    }

    #[test]
    fn every_kernel_of_the_guest_is_a_case() {
        let header = include_str!("../guest/kernels.h");
        let cases = select(&[]).unwrap();
        for word in header.split("X(").skip(2) {
            let name = word.split(')').next().unwrap();
            assert!(
                cases.contains(&name),
                "{name} is in kernels.h and is not measured"
            );
        }
    }
}
