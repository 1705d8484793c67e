//! From runs to the table: medians, ratios, floors, and whether all machines computed the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::cases::{Floor, GROUPS, Group};
use crate::machine::{Machine, Run};

/// All runs of all machines.
#[derive(Debug, Default)]
pub(crate) struct Report {
    runs: BTreeMap<Machine, Vec<Run>>,
}

impl Report {
    /// Takes in a run.
    pub(crate) fn add(&mut self, machine: Machine, run: Run) {
        self.runs.entry(machine).or_default().push(run);
    }

    /// The median time of a case on a machine.
    fn median(&self, machine: Machine, case: &str) -> Option<f64> {
        let runs = self.runs.get(&machine)?;
        let mut times: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.seconds.get(case).copied())
            .collect();
        times.sort_by(f64::total_cmp);
        let middle = times.len() / 2;
        match times.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(times[middle]),
            _ => Some(f64::midpoint(times[middle - 1], times[middle])),
        }
    }

    /// Atoll's time over another machine's.
    fn ratio(&self, other: Machine, case: &str) -> Option<f64> {
        Some(self.median(Machine::Atoll, case)? / self.median(other, case)?)
    }

    /// The table, and whether every floor that was measured holds.
    pub(crate) fn table(&self, cases: &[&str]) -> (String, bool) {
        let mut text = String::new();
        let mut all_hold = true;
        let number = |value: Option<f64>, unit: &str| {
            value.map_or("-".to_owned(), |value| format!("{value:.3}{unit}"))
        };
        row(
            &mut text,
            [
                "case",
                "atoll",
                "qemu",
                "qemu-icount",
                "/qemu",
                "/icount",
                "floor",
            ]
            .map(str::to_owned),
        );
        for group in GROUPS {
            let measured: Vec<&str> = group
                .cases
                .iter()
                .copied()
                .filter(|case| cases.contains(case))
                .collect();
            if measured.is_empty() {
                continue;
            }
            let verdict = self.verdict(group, &measured);
            all_hold &= !verdict.ends_with("MISSED");
            for case in &measured {
                let [atoll, tcg, icount] =
                    Machine::ALL.map(|machine| number(self.median(machine, case), " s"));
                let [per_tcg, per_icount] = [Machine::Tcg, Machine::TcgIcount]
                    .map(|machine| number(self.ratio(machine, case), ""));
                let last = if measured.len() == 1 {
                    verdict.clone()
                } else {
                    String::new()
                };
                row(
                    &mut text,
                    [
                        (*case).to_owned(),
                        atoll,
                        tcg,
                        icount,
                        per_tcg,
                        per_icount,
                        last,
                    ],
                );
            }
            if measured.len() > 1 {
                let means = [Machine::Tcg, Machine::TcgIcount].map(|machine| {
                    let ratios: Vec<f64> = measured
                        .iter()
                        .filter_map(|case| self.ratio(machine, case))
                        .collect();
                    number(geometric_mean(&ratios), "")
                });
                let [per_tcg, per_icount] = means;
                let empty = String::new;
                row(
                    &mut text,
                    [
                        format!("  = {}", group.name),
                        empty(),
                        empty(),
                        empty(),
                        per_tcg,
                        per_icount,
                        verdict,
                    ],
                );
            }
        }
        (text, all_hold)
    }

    /// What the group's floor says of the measured cases.
    fn verdict(&self, group: &Group, measured: &[&str]) -> String {
        let ratios: Vec<f64> = measured
            .iter()
            .filter_map(|case| self.ratio(Machine::Tcg, case))
            .collect();
        let Some(mean) = geometric_mean(&ratios) else {
            return String::new();
        };
        let largest = ratios.iter().copied().fold(0.0, f64::max);
        let (holds, rule) = match group.floor {
            Floor::None => return String::new(),
            Floor::Each(each) => (largest <= each, format!("each <= {each}")),
            Floor::Last(last) => (
                ratios.last().is_some_and(|ratio| *ratio <= last),
                format!("last <= {last}"),
            ),
            Floor::Mean(limit) => (mean <= limit, format!("mean <= {limit}")),
            Floor::MeanAndEach(limit, each) => (
                mean <= limit && largest <= each,
                format!("mean <= {limit}, each <= {each}"),
            ),
        };
        format!("{rule}: {}", if holds { "holds" } else { "MISSED" })
    }

    /// Cases whose results differ between runs or machines, or that a run did not finish.
    pub(crate) fn faults(&self, cases: &[&str]) -> Vec<String> {
        let runs = || {
            self.runs
                .iter()
                .flat_map(|(machine, runs)| runs.iter().map(move |run| (machine, run)))
        };
        let mut faults = Vec::new();
        for case in cases {
            for (machine, run) in runs() {
                if !run.seconds.contains_key(*case) {
                    faults.push(format!("{case}: {} did not finish it", machine.name()));
                }
            }
            let results: BTreeSet<&String> = runs()
                .filter_map(|(_, run)| run.results.get(*case))
                .collect();
            if results.len() > 1 {
                let by = runs().filter_map(|(machine, run)| {
                    Some(format!("{} {}", machine.name(), run.results.get(*case)?))
                });
                faults.push(format!(
                    "{case}: results differ: {}",
                    by.collect::<Vec<_>>().join(", ")
                ));
            }
        }
        faults
    }

    /// CPU features that the guest saw on Atoll or on QEMU alone, if both ran.
    pub(crate) fn feature_difference(&self) -> Option<String> {
        let flags = |machine| {
            Some(
                self.runs
                    .get(&machine)?
                    .first()?
                    .flags
                    .split_whitespace()
                    .collect::<BTreeSet<_>>(),
            )
        };
        let (atoll, tcg) = (flags(Machine::Atoll)?, flags(Machine::Tcg)?);
        let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| {
            a.difference(b).copied().collect::<Vec<_>>().join(" ")
        };
        Some(format!(
            "CPU features on atoll alone: {}\nCPU features on qemu alone: {}",
            only(&atoll, &tcg),
            only(&tcg, &atoll)
        ))
    }
}

fn row(text: &mut String, cells: [String; 7]) {
    let [case, atoll, tcg, icount, per_tcg, per_icount, last] = cells;
    let line =
        format!("{case:<18}{atoll:>11}{tcg:>11}{icount:>13}{per_tcg:>9}{per_icount:>9}   {last}");
    writeln!(text, "{}", line.trim_end()).expect("a string takes all that is written");
}

fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (logs / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(times: &[(&str, f64)], result: &str) -> Run {
        let mut run = Run::default();
        for (case, seconds) in times {
            run.seconds.insert((*case).to_owned(), *seconds);
            run.results.insert((*case).to_owned(), result.to_owned());
        }
        run
    }

    #[test]
    fn a_floor_is_judged_by_medians() {
        let mut report = Report::default();
        for seconds in [9.0, 0.4, 0.5] {
            report.add(Machine::Atoll, run(&[("fp", seconds)], "1"));
        }
        report.add(Machine::Tcg, run(&[("fp", 1.0)], "1"));
        assert_eq!(report.median(Machine::Atoll, "fp"), Some(0.5));
        assert!(report.table(&["fp"]).1);
        report.add(Machine::Atoll, run(&[("fp", 9.0)], "1"));
        assert!(!report.table(&["fp"]).1);
    }

    #[test]
    fn wrong_results_and_missing_cases_are_faults() {
        let mut report = Report::default();
        report.add(Machine::Atoll, run(&[("fp", 1.0)], "1"));
        report.add(Machine::Tcg, run(&[("fp", 1.0)], "2"));
        let faults = report.faults(&["fp", "simd"]);
        assert_eq!(faults.len(), 3);
        assert!(faults[0].contains("results differ: atoll 1, qemu 2"));
    }
}
