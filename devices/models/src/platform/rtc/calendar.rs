//! Dates, alarms and how the clock's registers write them.

/// The registers that show the time: seconds, minutes, hours, day of the week, day, month, year, century. The alarm's are between
/// the first three.
pub(super) const REGISTERS: [usize; 8] = [0, 2, 4, 6, 7, 8, 9, super::CENTURY];

/// The end of the year 9999.
pub(super) const LAST_SECOND: i64 = 253_402_300_799;

const DAY_S: i64 = 86_400;

pub(super) fn is_time(index: usize) -> bool {
    REGISTERS.contains(&index)
}

/// How numbers are written, by register B.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

impl Format {
    fn write(self, value: i64) -> u8 {
        let value = value.rem_euclid(100) as u8;
        if self.binary {
            value
        } else {
            (value / 10 * 16) + value % 10
        }
    }

    /// Digits above 9 are what they are: the clock's own adder would not know better.
    fn read(self, byte: u8) -> i64 {
        i64::from(if self.binary {
            byte
        } else {
            (byte >> 4) * 10 + (byte & 0xF)
        })
    }

    /// With 12 hours bit 7 is the afternoon, and midnight and noon are 12.
    fn write_hour(self, hour: i64) -> u8 {
        if self.hours_24 {
            return self.write(hour);
        }
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        self.write(twelve) | if hour >= 12 { 0x80 } else { 0 }
    }

    fn read_hour(self, byte: u8) -> i64 {
        if self.hours_24 {
            return self.read(byte);
        }
        self.read(byte & 0x7F) % 12 + if byte & 0x80 != 0 { 12 } else { 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    year: i64,
    month: i64,
    day: i64,
    /// Of the day.
    second: i64,
    /// 1 is Sunday.
    weekday: i64,
}

impl Date {
    pub(super) fn from_seconds(seconds: i64) -> Date {
        let days = seconds.div_euclid(DAY_S);
        // Years begin in March here, so that the day that leap years add is the last. Day 0 is 1 March of the year 0.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 {
            march_month + 3
        } else {
            march_month - 9
        };
        Date {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * march_month + 2) / 5 + 1,
            second: seconds.rem_euclid(DAY_S),
            // 1 January 1970 was a Thursday.
            weekday: (days + 4).rem_euclid(7) + 1,
        }
    }

    /// Never before 1970 or after 9999.
    pub(super) fn to_seconds(self) -> i64 {
        // A month that no calendar has is taken modulo the year; days and seconds add up as they are.
        let month = (self.month - 1).rem_euclid(12) + 1;
        let year = self.year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100
            + day_of_year
            - 719_468;
        (days * DAY_S + self.second).clamp(0, LAST_SECOND)
    }

    pub(super) fn register(&self, index: usize, format: Format) -> u8 {
        match index {
            0 => format.write(self.second % 60),
            2 => format.write(self.second / 60 % 60),
            4 => format.write_hour(self.second / 3600),
            6 => format.write(self.weekday),
            7 => format.write(self.day),
            8 => format.write(self.month),
            9 => format.write(self.year),
            _ => format.write(self.year / 100),
        }
    }

    pub(super) fn from_registers(bytes: &[u8], format: Format) -> Date {
        let read = |index: usize| format.read(bytes[index]);
        Date {
            year: read(super::CENTURY) * 100 + read(9),
            month: read(8),
            day: read(7),
            second: format.read_hour(bytes[4]) * 3600 + read(2) * 60 + read(0),
            weekday: read(6),
        }
    }
}

/// An alarm's time of day; `None` matches always.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alarm {
    hour: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
}

impl Alarm {
    pub(super) fn from_registers(bytes: &[u8], format: Format) -> Alarm {
        // The two highest bits set: "don't care".
        let field = |index: usize| (bytes[index] < 0xC0).then_some(bytes[index]);
        Alarm {
            hour: field(5).map(|byte| format.read_hour(byte)),
            minute: field(3).map(|byte| format.read(byte)),
            second: field(1).map(|byte| format.read(byte)),
        }
    }

    /// The first second after `after` that matches: within a day, or never.
    pub(super) fn next_after(&self, after: i64) -> Option<i64> {
        let first = after + 1;
        let mut at = first;
        while at < first + DAY_S {
            let of_day = at.rem_euclid(DAY_S);
            let matches = |field: Option<i64>, value: i64| field.is_none_or(|field| field == value);
            // Skip as much as cannot match: an hour, a minute, a second.
            if !matches(self.hour, of_day / 3600) {
                at += 3600 - of_day % 3600;
            } else if !matches(self.minute, of_day / 60 % 60) {
                at += 60 - of_day % 60;
            } else if !matches(self.second, of_day % 60) {
                at += 1;
            } else {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        let date = |seconds| {
            let d = Date::from_seconds(seconds);
            (d.year, d.month, d.day, d.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 5));
        assert_eq!(date(951_782_400), (2000, 2, 29, 3));
        assert_eq!(date(1_709_164_800), (2024, 2, 29, 5));
        assert_eq!(date(LAST_SECOND), (9999, 12, 31, 6));
    }

    proptest! {
        #[test]
        fn every_second_reads_back(seconds in 0..=LAST_SECOND, binary: bool, hours_24: bool) {
            let format = Format { binary, hours_24 };
            let date = Date::from_seconds(seconds);
            prop_assert_eq!(date.to_seconds(), seconds);
            let mut bytes = [0; 128];
            for index in REGISTERS {
                bytes[index] = date.register(index, format);
            }
            prop_assert_eq!(Date::from_registers(&bytes, format), date);
        }

        #[test]
        fn impossible_registers_are_some_time(bytes in proptest::collection::vec(any::<u8>(), 128), binary: bool) {
            let format = Format { binary, hours_24: false };
            let seconds = Date::from_registers(&bytes, format).to_seconds();
            prop_assert!((0..=LAST_SECOND).contains(&seconds));
            if let Some(at) = Alarm::from_registers(&bytes, format).next_after(seconds) {
                prop_assert!(at > seconds && at <= seconds + DAY_S);
            }
        }
    }
}
