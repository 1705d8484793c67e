//! `atoll diff`: the first difference of two trails. Given the flags of the runs, [`narrow`](crate::narrow) finds the instruction
//! between two points.

use std::process::ExitCode;

use crate::trail::{compare, read};

/// `atoll diff A B [-- FLAGS [-- FLAGS]]`.
pub(crate) fn diff(arguments: &[String]) -> ExitCode {
    let mut parts = arguments.split(|word| word == "--");
    let Some([a, b]) = parts.next() else {
        eprintln!("atoll: diff needs two trails");
        return ExitCode::from(2);
    };
    let flags: Vec<&[String]> = parts.collect();
    let trails = read(a.as_ref()).and_then(|a| Ok((a, read(b.as_ref())?)));
    let outcome = trails.and_then(|(a, b)| {
        let Some(difference) = compare(&a, &b) else {
            println!("the trails are equal: {} records", a.records.len());
            return Ok(ExitCode::SUCCESS);
        };
        print!("{}", difference.text);
        if let (Some(window), [first, ..]) = (difference.window, &flags[..]) {
            crate::narrow::narrow(window, [first, flags.get(1).unwrap_or(first)])?;
        }
        Ok(ExitCode::from(1))
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("atoll: {error:#}");
        ExitCode::from(2)
    })
}
